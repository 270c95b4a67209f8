/** Bulks whose jobs do nothing: how soon they are accepted, how fast they pass, and whether the history has all of them afterwards. */
import { poll, systemClock } from "#actor/clock.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { BulkFarm } from "#bench/bulk/bulk-farm.ts";
import { chainRequest } from "#bench/bulk/chain-request.ts";

export const bulkSizes = [200, 500, 2_000] as const;

const nothing = { kind: "nothing" } as const;
/** Code that has not been compiled yet is not what is compared. */
const warmUpChains = 100;
/** Five times what the peer takes for 2,000. */
const runMsMax = 120_000;
/** What has ended is archived twice a second. */
const archivedMsMax = 30_000;
/** Of one question to the history. */
const pageMax = 1_000;

export interface NoOpRun {
  readonly chains: number;
  /** Until the last of its requests was answered: a request holds 1,000 chains. */
  readonly answeredMs: number;
  readonly chainsPerSecond: number;
  /** Chains of the bulk that the history has with a flash that succeeded. */
  readonly inHistory: number;
}

/** All sizes, one after another, in a farm of their own. @throws UnavailableError when a run hangs or the signal fires */
export async function noOpRuns(binary: string, folder: string, signal: AbortSignal): Promise<readonly NoOpRun[]> {
  await using farm = await BulkFarm.open({ binary, folder, compile: nothing, upload: nothing });
  const runs: NoOpRun[] = [];
  let flashed = 0;
  for (const chains of [warmUpChains, ...bulkSizes]) {
    const requests = Array.from({ length: chains }, (_, index) => chainRequest(flashed + index + 1));
    const startedAt = performance.now();
    await farm.submit(requests);
    const answeredMs = performance.now() - startedAt;
    flashed += chains;
    await farm.untilFlashed(flashed, AbortSignal.any([signal, AbortSignal.timeout(runMsMax)]));
    const chainsPerSecond = chains / ((performance.now() - startedAt) / 1000);
    const found = await succeededInHistory(farm, chains);
    const inHistory = requests.filter(({ id }) => found.has(id)).length;
    runs.push({ chains, answeredMs, chainsPerSecond, inHistory });
  }
  return runs.slice(1);
}

/** Of the newest `count` chains in the history, those whose device was flashed; once nothing is live any more. */
async function succeededInHistory(farm: BulkFarm, count: number): Promise<ReadonlySet<ChainId>> {
  const patience = { everyMs: 50, withinMs: archivedMsMax };
  const isEmpty = await poll(systemClock, patience, async () =>
    (await farm.ask({ v: 1, kind: "status" }, "status")).live === 0 ? true : undefined,
  );
  if (isEmpty !== true) throw new UnavailableError("not-archived", `chains are still live after ${archivedMsMax} ms`);
  const found = new Set<ChainId>();
  let skip = 0;
  while (skip < count) {
    const limit = Math.min(pageMax, count - skip);
    const { ended } = await farm.ask({ v: 1, kind: "history", isFailed: false, skip, limit }, "chains");
    if (ended.length === 0) break;
    for (const { id, upload } of ended) if (upload?.state === "succeeded") found.add(id);
    skip += ended.length;
  }
  return found;
}
