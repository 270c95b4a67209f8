/**
 * A rollout: the installs of one request, flashed in waves. Each of its chains says what all of them are to do, so that the farm keeps no
 * other record of it; a rollout is over when all of them have ended, and only then do they go to the history.
 */
import { z } from "zod";
import { ChainId, Configuration } from "#protocol/ids.ts";

/** A chain's part in its rollout. */
export const RolloutPart = z.object({
  /** That of its first chain. */
  id: ChainId,
  /** From 1; a wave is flashed when all before it have ended. */
  wave: z.number().int().min(1).max(1_000),
  /** With more devices than this that failed, nothing else is flashed until a person says so. */
  failuresMax: z.number().int().min(0).max(1_000),
  /** A person has stopped it for a while. */
  isPaused: z.boolean().optional(),
});
export type RolloutPart = z.infer<typeof RolloutPart>;

/**
 * `going`; `paused` by a person; `stopped` by itself, because too many devices failed; `ended`: every chain of it has.
 */
export const RolloutState = z.enum(["going", "paused", "stopped", "ended"]);
export type RolloutState = z.infer<typeof RolloutState>;

export const WaveView = z.object({
  wave: z.number().int(),
  /** Chains by how far they are. */
  building: z.number().int(),
  waiting: z.number().int(),
  flashing: z.number().int(),
  confirming: z.number().int(),
  done: z.number().int(),
  failed: z.number().int(),
  cancelled: z.number().int(),
});
export type WaveView = z.infer<typeof WaveView>;

export const RolloutView = z.object({
  id: ChainId,
  state: RolloutState,
  createdAt: z.number(),
  failuresMax: z.number().int(),
  waves: z.array(WaveView),
  /** Devices that count against it. */
  failed: z.array(z.object({ configuration: Configuration, chain: ChainId, reason: z.string() })),
});
export type RolloutView = z.infer<typeof RolloutView>;

export const RolloutAction = z.enum(["pause", "resume", "abort"]);
export type RolloutAction = z.infer<typeof RolloutAction>;
