/** Uploads that wait for something else than a slot: a part of the day, or their device. */
import type { AgentId } from "#protocol/ids.ts";
import { networkOf, type OtaTarget, type UploadJob } from "#protocol/job.ts";
import type { DailyWindow } from "#protocol/timing.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Step } from "#coordinator/core/step.ts";

/** A device of which no agent hears a sign of life is tried so often all the same; each try takes a slot for half a minute. */
export const awaitEveryMs = 10 * 60_000;

const clocks = new Map<string, Intl.DateTimeFormat>();

/** Whether an instant (ms since 1970) is in the window, by the clock of its zone. */
export function isWithin({ from, to, zone }: DailyWindow, at: number): boolean {
  if (from === to) return true;
  const minute = minuteOfDay(zone, at);
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

function minuteOfDay(zone: string, at: number): number {
  const clock = clocks.get(zone) ?? clockOf(zone);
  const parts = Object.fromEntries(clock.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
  return (parts["hour"] ?? 0) * 60 + (parts["minute"] ?? 0);
}

/** A zone that this machine does not know is read as UTC: the window is kept, by another clock. */
function clockOf(zone: string): Intl.DateTimeFormat {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
  let clock: Intl.DateTimeFormat;
  try {
    clock = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone });
  } catch {
    clock = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" });
  }
  clocks.set(zone, clock);
  return clock;
}

/** A queued upload that waits for a sign of life. */
export function isAwaiting(upload: UploadJob | undefined): upload is UploadJob {
  return upload?.state === "queued" && upload.spec.timing?.isAwaited === true && upload.notBeforeAt !== undefined;
}

/** A device that an agent hears: the names that it may be meant by, and its address (MAC) where it says that. */
export interface Seen {
  readonly names: readonly string[];
  readonly mac?: string | undefined;
  readonly agent: AgentId;
}

/** What waits for this device is tried now. An agent that hears it is asked again, also one that did not reach it before. */
export function wake(step: Step, seen: Seen): void {
  for (const { id, upload } of step.draft.awaiting()) {
    if (!isAwaiting(upload) || !isOf(upload, seen)) continue;
    const avoid = upload.avoid.filter((agent) => agent !== seen.agent);
    step.change(id, "upload", { notBeforeAt: undefined, avoid });
  }
}

function isOf({ spec: { target } }: UploadJob, { names, mac }: Seen): boolean {
  if (target.mac !== undefined && mac !== undefined) return target.mac.toUpperCase() === mac.toUpperCase();
  const formerName = networkOf(target)?.formerName;
  return names.some((name) => name === target.name || name === formerName);
}

/** Whom the agents are to look out for. */
export function awaitedTargets(farm: Farm): readonly OtaTarget[] {
  const targets: OtaTarget[] = [];
  for (const { upload } of farm.chains.values()) {
    const target = isAwaiting(upload) ? networkOf(upload.spec.target) : undefined;
    if (target !== undefined) targets.push(target);
  }
  return targets;
}
