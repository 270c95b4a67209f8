/** A stage of a job, held to its limits whatever its work does. */
import type { Clock } from "#actor/clock.ts";
import type { Failure } from "#protocol/failure.ts";
import type { Stage, StageLimits } from "#protocol/limits.ts";

/** How a stage ended that did not come to its result; a `JobResult` as it stands. */
export type StageCut = { readonly kind: "stopped" } | { readonly kind: "failed"; readonly failure: Failure };

export type StageEnd<T> = { readonly kind: "done"; readonly value: T } | StageCut;

/** What the work of a stage gets. */
export interface StageWatch {
  /** Fires for the job's own signal and for the limit; the work is to end then. */
  readonly signal: AbortSignal;
  /** Called at each sign of life; its silence counts from the last one. */
  readonly moved: () => void;
}

export interface StageOptions {
  readonly stage: Stage;
  readonly limits: StageLimits;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /**
   * Set for work that has started processes: its end is waited for, because they must be dead. Other work is left behind at the
   * limit, so that not even a call that never returns holds up its job.
   */
  readonly isAwaited?: boolean;
}

/**
 * Works for as long as the stage's limits allow. Work that its signal has ended may answer `undefined`. What it throws is thrown,
 * unless it was left behind.
 * Failure: `deadline` with the stage and without effect; a stage that can touch a device has its own clock.
 */
export async function inStage<T extends object>(
  options: StageOptions,
  work: (watch: StageWatch) => Promise<T | undefined>,
): Promise<StageEnd<T>> {
  const { stage, limits, clock, signal, isAwaited = false } = options;
  const { silenceMs = Infinity, totalMs } = limits[stage];
  if (signal.aborted) return { kind: "stopped" };
  const cutOff = new AbortController();
  const over = new AbortController();
  const startedAt = clock.monotonic();
  let movedAt = startedAt;

  const watch = async (): Promise<StageCut | undefined> => {
    const ended = AbortSignal.any([signal, over.signal]);
    for (;;) {
      const now = clock.monotonic();
      const silenceLeftMs = movedAt + silenceMs - now;
      const totalLeftMs = startedAt + totalMs - now;
      const limit = silenceLeftMs < totalLeftMs ? "silence" : "total";
      const leftMs = Math.min(silenceLeftMs, totalLeftMs);
      if (leftMs <= 0) {
        const limitMs = limit === "silence" ? silenceMs : totalMs;
        return { kind: "failed", failure: { kind: "deadline", stage, limit, limitMs, effect: "none" } };
      }
      if (await clock.pause(leftMs, ended)) continue;
      return over.signal.aborted ? undefined : { kind: "stopped" };
    }
  };

  const working = work({
    signal: AbortSignal.any([signal, cutOff.signal]),
    moved: () => (movedAt = clock.monotonic()),
  }).then((value): StageEnd<T> => (value === undefined ? { kind: "stopped" } : { kind: "done", value }));
  try {
    const cut = await Promise.race([working.then(() => undefined), watch()]);
    if (cut === undefined) return await working;
    cutOff.abort();
    const ended = working.catch(() => undefined);
    return isAwaited ? await ended.then((end) => (cut.kind === "stopped" ? (end ?? cut) : cut)) : cut;
  } finally {
    over.abort();
  }
}
