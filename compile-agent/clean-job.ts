/**
 * One clean: build trees are taken away.
 *
 * 1. The statement without the trees leaves before anything is deleted, and so before the result is reported: nobody is sent to a
 *    tree that is gone.
 */
import { inStage } from "#actor/stage.ts";
import { messageOf } from "#protocol/errors.ts";
import type { Failure } from "#protocol/failure.ts";
import type { JobResult } from "#protocol/job.ts";
import { stageLimits } from "#protocol/limits.ts";
import type { CleanDispatch } from "#protocol/messages.ts";
import type { CompileServices } from "#compile-agent/compile-job.ts";
import type { Removal, TreesToRemove } from "#compile-agent/workspace.ts";

/** Failures: `tree-stuck`, `deadline`. Whatever its end, no build finds half a tree. */
export async function clean(
  { workspace, bundles, clock, limits = stageLimits, announceTrees, say }: CompileServices,
  { chain, job, trees, configuration }: CleanDispatch,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<JobResult> {
  const which: TreesToRemove = trees === "all" ? "all" : { configuration };
  onLine(which === "all" ? "taking every build tree away" : `taking the build trees of ${configuration} away`);
  say(chain, job, { v: 1, phase: "cleaning" });
  const end = await inStage({ stage: "cleaning", limits, clock, signal }, async (watch): Promise<JobResult> => {
    try {
      const removal = await workspace.removeTrees(which, {
        signal: watch.signal,
        onOut: announceTrees,
        onGone: watch.moved,
      });
      if (removal === undefined) return { kind: "stopped" };
      if (which === "all") await bundles.clear();
      onLine(removal.trees === 1 ? "1 build tree is gone" : `${removal.trees} build trees are gone`);
      return resultOf(removal);
    } catch (error) {
      return { kind: "failed", failure: stuck({ path: "the build folder", error, isOut: false }, 0) };
    }
  });
  return end.kind === "done" ? end.value : end;
}

function resultOf(removal: Removal): JobResult {
  if (removal.stuck === undefined) return { kind: "cleaned", trees: removal.trees };
  return { kind: "failed", failure: stuck(removal.stuck, removal.trees) };
}

function stuck({ path, error, isOut }: NonNullable<Removal["stuck"]>, trees: number): Failure {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "unknown";
  return { kind: "tree-stuck", path, code, detail: messageOf(error), isOut, trees };
}
