/** One farm on a fresh disk, from its first chain through a power cut to the count of what is left. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#actor/clock.ts";
import { connect } from "#bus/connection.ts";
import { isFarmError, UnavailableError } from "#protocol/errors.ts";
import { BusyUsers } from "#test/power-cut/busy-users.ts";
import { type Setting, startCoordinator, startServer, storeBytes, storeOf } from "#test/power-cut/crash-rig.ts";
import { type Survivors, survivorsOf } from "#test/power-cut/survivors.ts";
import type { CutFigures } from "#test/power-cut/verdict.ts";
import { VolatileDisk } from "#test/power-cut/volatile-disk.ts";

export interface CutPlan {
  readonly setting: Setting;
  readonly binary: string;
  /** Is made, and is gone afterwards. */
  readonly folder: string;
  /** How long chains are asked for before the power goes. */
  readonly busyMs: number;
  readonly signal: AbortSignal;
}

/** @throws UsageError `no-loop-device`; UnavailableError when the farm does not come up before the cut, or the signal fires. */
export async function cutOnce(plan: CutPlan): Promise<CutFigures> {
  const { setting, binary, folder } = plan;
  const serverFolder = join(folder, "nats");
  try {
    await using disk = await VolatileDisk.make(join(folder, "disk"), storeOf(serverFolder), storeBytes);
    await disk.powerOn();
    const promises = await workUntilCut(plan, disk, serverFolder);
    await disk.powerOff();
    refuseInterrupted(plan.signal);
    await disk.powerOn();
    const left = await survivorsOf(promises, setting, binary, serverFolder).catch(whatFailed);
    const { accepted, cancelled, open } = promises;
    return { busyMs: plan.busyMs, accepted: accepted.size, cancelled: cancelled.size, open, ...left };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function workUntilCut({ setting, binary, busyMs, signal }: CutPlan, disk: VolatileDisk, serverFolder: string) {
  await using server = await startServer(setting, binary, serverFolder);
  await using connection = await connect(server.url, "users");
  await using coordinator = await startCoordinator(server, connection);
  const users = new BusyUsers(connection);
  try {
    await systemClock.pause(busyMs, signal);
    refuseInterrupted(signal);
    // One after the other without a pause: what is answered later does not count.
    const promises = users.promises();
    await disk.cut();
    await Promise.all([server.kill(), coordinator.kill()]);
    return promises;
  } finally {
    await users.end();
  }
}

function refuseInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw new UnavailableError("interrupted", `not done: ${String(signal.reason)}`);
}

/** A farm that does not come up again has kept nothing. */
function whatFailed(error: unknown): Survivors & { readonly trouble: string } {
  if (!isFarmError(error)) throw error;
  return { found: 0, stillCancelled: 0, answered: 0, trouble: error.message.split("\n")[0] ?? error.code };
}
