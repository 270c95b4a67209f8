/** The coordinator's word, and how its clock stands to ours. */
import { farmVersion } from "#protocol/version.ts";
import { type Check, ok, warning } from "#cli/doctor/check.ts";
import type { AnswerOf } from "#cli/farm.ts";
import { duration } from "#cli/render.ts";

/** Leases are counted by each process for itself, so clocks that differ only make the times that are shown wrong. */
const clockOffMsMax = 5_000;
/** More than a night's bulk of a thousand devices. */
const queueMax = 2_000;

/** Pure. @param askedAt and `answeredAt` on this machine's clock */
export function checkStatus(status: AnswerOf<"status">, askedAt: number, answeredAt: number): readonly Check[] {
  const { version, live, queueDepth, at, since } = status;
  const found = `${version}, ${live} chains live, ${queueDepth} jobs queued`;
  const coordinator =
    version === farmVersion
      ? ok("coordinator", found)
      : warning("coordinator", found, `this command line is ${farmVersion}: use the same version on all machines`);
  const off = at - (askedAt + answeredAt) / 2;
  const isOff = Math.abs(off) > clockOffMsMax + (answeredAt - askedAt) / 2;
  const clocks = `${duration(Math.abs(off))} apart from the coordinator's`;
  const fix = "set the clocks of both machines, e.g. with NTP: the times that are shown are wrong";
  return [
    coordinator,
    ok("leading", `for ${duration(Math.max(0, at - since))}`),
    isOff ? warning("clock", clocks, fix) : ok("clock", clocks),
    queueDepth <= queueMax
      ? ok("queue", `${queueDepth} jobs wait`)
      : warning("queue", `${queueDepth} jobs wait`, "add build machines, or see `flashyard ps` for what holds them up"),
  ];
}
