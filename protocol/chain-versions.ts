/**
 * Records of chains as older versions wrote them, brought up to the present one when they are read. Nothing is written back for
 * that: a live record is of the present version from its next step on, one in the history stays as it is.
 *
 * - **2**: adds `rename`, `clean` and `reset`. A version that does not know them must not take such a record for one of its own.
 * - **1**: `install`, `build` and `upload`; a chain of version 2 without the rest.
 * - **0**: a fused install: one job that built and flashed in one go on one agent (`esphome run`).
 */
import { z } from "zod";
import { Chain } from "#protocol/chain.ts";
import { ChainId, Configuration } from "#protocol/ids.ts";
import { BuildSpec, OtaTarget } from "#protocol/job.ts";

const FusedInstall = z.object({
  v: z.literal(0),
  id: ChainId,
  type: z.literal("install"),
  configuration: Configuration,
  createdAt: z.number(),
  endedAt: z.number().optional(),
  state: z.enum(["queued", "running", "succeeded", "failed", "cancelled"]),
  /** Why it failed, as text. */
  reason: z.string().optional(),
  build: BuildSpec,
  target: OtaTarget,
});
type FusedInstall = z.infer<typeof FusedInstall>;

/** A chain's record of any version; decodes to the present one. What no version has written is refused. */
export const StoredChain = z.preprocess(upgrade, Chain);

function upgrade(record: unknown): unknown {
  if (typeof record !== "object" || record === null || !("v" in record)) return record;
  switch (record.v) {
    case 1:
      return { ...record, v: 2 };
    case 0: {
      const fused = FusedInstall.safeParse(record);
      return fused.success ? split(fused.data) : record;
    }
    default:
      return record;
  }
}

/** One that has not begun runs as a build and an upload. Of any other the two halves cannot be told apart any more. */
function split({ id, configuration, createdAt, build, target, ...fused }: FusedInstall): z.input<typeof Chain> {
  const common = { v: 2 as const, id, configuration, createdAt };
  const fresh = { attempt: 0, avoid: [], earlier: [] };
  const upload = {
    lane: "upload" as const,
    name: "upload" as const,
    spec: { target },
    mode: "flash" as const,
    ...fresh,
  };
  if (fused.state === "queued") {
    const compile = { lane: "compile" as const, name: "compile" as const, spec: build, ...fresh };
    return {
      ...common,
      kind: "install",
      compile: { ...compile, state: "queued", queuedAt: createdAt },
      upload: { ...upload, state: "held" },
    };
  }
  return { ...common, kind: "upload", upload: { ...upload, endedAt: fused.endedAt ?? createdAt, ...endOf(fused) } };
}

function endOf({
  state,
  reason,
}: Pick<FusedInstall, "state" | "reason">): Pick<NonNullable<z.input<typeof Chain>["upload"]>, "state" | "outcome"> {
  switch (state) {
    case "succeeded":
      return { state, outcome: { kind: "flashed", level: "committed", wrote: true, flashMs: 0 } };
    case "failed":
      return {
        state,
        outcome: { kind: "failed", failure: { kind: "internal", detail: reason ?? "it did not say why" } },
      };
    case "cancelled":
      return { state, outcome: { kind: "cancelled", cause: "request" } };
    case "queued":
    case "running":
      // Its process knew whether it had flashed, and is gone.
      return {
        state: "unknown",
        outcome: { kind: "failed", failure: { kind: "agent-lost", agent: "of an older version", effect: "uncertain" } },
      };
  }
}
