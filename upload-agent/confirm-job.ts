/** Asks a device that has been flashed a while ago whether it still runs the build. Sends nothing to it. */
import { poll } from "#actor/clock.ts";
import type { Attempt } from "#actor/lane-worker.ts";
import { describeFailure } from "#protocol/failure.ts";
import { addressOfTarget, type JobResult } from "#protocol/job.ts";
import { stageLimits } from "#protocol/limits.ts";
import type { ConfirmDispatch } from "#protocol/messages.ts";
import { describeBuild, describeReport } from "#upload-agent/device-words.ts";
import { askEveryMs, type Probe, probeAfter } from "#upload-agent/probe.ts";
import type { UploadServices } from "#upload-agent/upload-job.ts";

/** A device that does not answer is asked for as long as one that restarts; any answer is its last word. */
export async function confirm(
  { clock, limits = stageLimits }: Pick<UploadServices, "clock" | "limits">,
  { target, manifest }: ConfirmDispatch,
  { signal }: Attempt,
  line: (text: string) => void,
): Promise<JobResult> {
  const { esphome } = manifest;
  const address = addressOfTarget(target);
  const unverified = (detail: string): JobResult => ({
    kind: "failed",
    failure: { kind: "not-verified", address, detail, effect: "committed" },
  });
  if (esphome === undefined) return unverified("the build does not say how to recognise it");
  line(`asking ${address} whether it still runs ${describeBuild(esphome)}`);
  let last: Probe | undefined;
  const withinMs = limits.verifying.totalMs;
  const seen = await poll(clock, { everyMs: askEveryMs, withinMs, signal }, async () => {
    last = await probeAfter(target, esphome, { signal });
    return last.answer === "unreachable" ? undefined : last;
  });
  if (signal.aborted && seen === undefined) return { kind: "stopped" };
  switch (seen?.answer) {
    case "new":
      line(`${address} still runs ${describeReport(seen)}`);
      return { kind: "confirmed", ...(seen.report === undefined ? {} : { report: seen.report }) };
    case "old": {
      const failure = {
        kind: "rolled-back" as const,
        address,
        wanted: describeBuild(esphome),
        found: describeReport(seen),
      };
      line(describeFailure(failure));
      return { kind: "failed", failure };
    }
    case "other":
      return unverified(`another device answers there: ${describeReport(seen)}`);
    case "unknowable":
    case "unreachable":
    case undefined:
      return unverified(last?.detail ?? "no answer");
  }
}
