/**
 * Feeding scarce media ahead. A Thread border router that carries one flash of nine minutes after the other must never wait for a
 * build: where its flashes will outlast all the builds, its next build goes first.
 */
import type { Chain } from "#protocol/chain.ts";
import { scarceSegment } from "#coordinator/core/conflicts.ts";
import type { Draft } from "#coordinator/core/farm.ts";
import { type LaneState, slotsOf } from "#coordinator/core/slots.ts";

/** Flashes of a segment that are ready, or whose builds are under way: with two, one can fail and the air is still used. */
const stockMax = 2;

/** Chains whose builds go first, those of the segment with most airtime left before the others. */
export function fedAhead(draft: Draft, lanes: readonly LaneState[]): readonly Chain[] {
  const buildsMs = draft.queuedBuildMs / Math.max(1, slotsOf(lanes));
  const hungry = new Map<string, { readonly airtimeMs: number; readonly wanted: number; readonly chains: Chain[] }>();
  for (const [name, { airtimeMs, stock, size }] of draft.segments()) {
    const wanted = Math.min(stockMax, size) - stock.size;
    if (wanted > 0 && airtimeMs > buildsMs) hungry.set(name, { airtimeMs, wanted, chains: [] });
  }
  const open = new Set(hungry.keys());
  if (open.size === 0) return [];
  for (const chain of draft.inTurn()) {
    const segment = chain.upload === undefined ? undefined : scarceSegment(chain.upload.spec.target);
    const entry = segment === undefined || !open.has(segment) ? undefined : hungry.get(segment);
    if (segment === undefined || entry === undefined) continue;
    entry.chains.push(chain);
    if (entry.chains.length === entry.wanted) open.delete(segment);
    if (open.size === 0) break;
  }
  return [...hungry.values()].sort((a, b) => b.airtimeMs - a.airtimeMs).flatMap(({ chains }) => chains);
}

/** Queued flashes by scarce media, those of the segment with most airtime left before the others: what holds up most. */
export function mostAirtimeFirst(draft: Draft): readonly Chain[] {
  return [...draft.segments().values()]
    .sort((a, b) => b.airtimeMs - a.airtimeMs)
    .flatMap(({ stock }) => draft.inQueue("upload", stock));
}
