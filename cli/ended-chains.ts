/** What has ended, also what is on its way from the live records to the history. */
import type { AdminRequest } from "#protocol/admin.ts";
import { type Chain, configurationsOf, isSettled, jobsOf } from "#protocol/chain.ts";
import type { Configuration } from "#protocol/ids.ts";
import type { Farm } from "#cli/farm.ts";
import { liveChains } from "#cli/live-chains.ts";

export interface EndedQuery {
  readonly configuration?: Configuration;
  /** Only what failed or is unknown. */
  readonly isFailed: boolean;
  readonly limit: number;
}

/** Newest first. @throws UnavailableError */
export async function endedChains(farm: Farm, query: EndedQuery): Promise<readonly Chain[]> {
  // In this order: what moves in between is found twice, and never not at all.
  const live = await liveChains(farm);
  const ended = await allEnded(farm, query);
  const moving = live.map(({ chain }) => chain).filter((chain) => isSettled(chain) && fits(chain, query));
  const found = new Map([...moving, ...ended].map((chain) => [chain.id, chain]));
  return [...found.values()].toSorted((a, b) => endOf(b) - endOf(a)).slice(0, query.limit);
}

/** Again from where a full message broke off. */
async function allEnded(farm: Farm, query: EndedQuery): Promise<readonly Chain[]> {
  const all: Chain[] = [];
  for (;;) {
    const limit = query.limit - all.length;
    const request: AdminRequest = { v: 1, kind: "history", ...query, skip: all.length, limit };
    const { ended, isCut } = await farm.ask(request, "chains");
    all.push(...ended);
    if (isCut !== true || ended.length === 0 || all.length >= query.limit) return all;
  }
}

function fits(chain: Chain, { configuration, isFailed }: EndedQuery): boolean {
  return (
    (configuration === undefined || configurationsOf(chain).includes(configuration)) && (!isFailed || hasFailed(chain))
  );
}

export function hasFailed(chain: Chain): boolean {
  return jobsOf(chain).some(({ state }) => state === "failed" || state === "unknown");
}

/** When its last job ended (ms since 1970). */
export function endOf(chain: Chain): number {
  return Math.max(chain.createdAt, ...jobsOf(chain).map(({ endedAt }) => endedAt ?? 0));
}
