/**
 * Builds for scarce media. Where the flashes over a Thread border router, which carries one at a time and for nine minutes, outlast all
 * builds, its air decides how long everything takes, and must never wait for a build:
 *
 * 1. Its next build goes first when the air would otherwise be free before the build is done, and one that fails could be replaced.
 * 2. Its other builds let all those go first whose devices can be flashed at once: the air is taken anyway.
 */
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { scarceSegment } from "#coordinator/core/conflicts.ts";
import { expectedUploadMs } from "#coordinator/core/durations.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import { expectedMs } from "#coordinator/core/order.ts";
import type { Segment } from "#coordinator/core/segments.ts";
import { type LaneState, slotsOf } from "#coordinator/core/slots.ts";

/** Flashes of a segment that are ready, or whose builds are under way. */
const stockMax = 2;

/** The stock lasts for as many builds, at least: less leaves the air free when one fails, more is built before it is of use. */
const reserve = 2;

/** Segments whose flashes will outlast all the builds. */
export function outlasting(draft: Draft, lanes: readonly LaneState[]): ReadonlyMap<string, Segment> {
  const buildsMs = draft.queuedBuildMs / Math.max(1, slotsOf(lanes));
  return new Map([...draft.segments()].filter(([, { airtimeMs }]) => airtimeMs > buildsMs));
}

interface Hungry {
  readonly airtimeMs: number;
  readonly wanted: number;
  /** How much longer its stock keeps the air busy (ms). */
  stockMs: number;
  readonly chains: Chain[];
}

/** Invariant 1. @returns chains whose builds go first, those of the segment with most airtime left before the others */
export function fedAhead(draft: Draft, lanes: readonly LaneState[], at: number): readonly Chain[] {
  const hungry = new Map<string, Hungry>();
  for (const [name, { airtimeMs, stock, size }] of outlasting(draft, lanes)) {
    const wanted = Math.min(stockMax, size) - stock.size;
    if (wanted > 0) hungry.set(name, { airtimeMs, wanted, stockMs: stockMsOf(draft, stock, at), chains: [] });
  }
  const open = new Set(hungry.keys());
  if (open.size === 0) return [];
  for (const chain of draft.inTurn()) {
    const segment = segmentOf(chain);
    const entry = segment === undefined || !open.has(segment) ? undefined : hungry.get(segment);
    if (segment === undefined || entry === undefined) continue;
    const isHungry = entry.stockMs < reserve * expectedMs(draft, chain);
    if (isHungry) {
      entry.chains.push(chain);
      entry.stockMs += expectedUploadMs(draft.knowledge, chain);
    }
    if (!isHungry || entry.chains.length === entry.wanted) open.delete(segment);
    if (open.size === 0) break;
  }
  return [...hungry.values()].sort((a, b) => b.airtimeMs - a.airtimeMs).flatMap(({ chains }) => chains);
}

/** Invariant 2. Tells the builds that go behind; those that are fed ahead do not. */
export function goesBehind(
  draft: Draft,
  lanes: readonly LaneState[],
  fed: readonly Chain[],
): (chain: Chain) => boolean {
  const segments = outlasting(draft, lanes);
  const isFed = new Set(fed);
  return (chain) => segments.has(segmentOf(chain) ?? "") && !isFed.has(chain);
}

/** A flash that is overdue may end at any time, and one that waits for its time leaves the air free. */
function stockMsOf(draft: Draft, stock: Iterable<ChainId>, at: number): number {
  let stockMs = 0;
  for (const id of stock) {
    const chain = draft.chain(id);
    if (chain === undefined || (chain.upload?.notBeforeAt ?? 0) > at) continue;
    stockMs += Math.max(0, expectedUploadMs(draft.knowledge, chain) - (at - (chain.upload?.startedAt ?? at)));
  }
  return stockMs;
}

function segmentOf({ upload }: Chain): string | undefined {
  return upload === undefined ? undefined : scarceSegment(upload.spec.target);
}

/** Queued flashes by scarce media, those of the segment with most airtime left before the others: what holds up most. */
export function mostAirtimeFirst(draft: Draft): readonly Chain[] {
  return [...draft.segments().values()]
    .sort((a, b) => b.airtimeMs - a.airtimeMs)
    .flatMap(({ stock }) => draft.inQueue("upload", stock));
}
