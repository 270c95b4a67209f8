/** What is to come, or under way, over each segment of a scarce medium. */
import type { Chain } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal } from "#protocol/job.ts";
import { scarceSegment } from "#coordinator/core/conflicts.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { SumOfIds } from "#coordinator/core/sum-of-ids.ts";

export interface Segment {
  /** Flashes that are not over. */
  readonly size: number;
  /** How long they will keep it busy (ms). */
  readonly airtimeMs: number;
  /** Chains of those that are ready or under way, or whose builds are. */
  readonly stock: ReadonlySet<ChainId>;
}

export class Segments {
  readonly #all = new Map<string, OneSegment>();

  get all(): ReadonlyMap<string, Segment> {
    return this.#all;
  }

  /** @param flashMs how long the flash of `after` is expected to take, asked only where it needs a segment */
  replace(before: Chain | undefined, after: Chain | undefined, flashMs: (chain: Chain) => number): void {
    const former = before === undefined ? undefined : segmentOf(before);
    if (before !== undefined && former !== undefined) {
      const segment = this.#all.get(former);
      segment?.remove(before.id);
      if (segment?.size === 0) this.#all.delete(former);
    }
    const name = after === undefined ? undefined : segmentOf(after);
    if (after === undefined || name === undefined) return;
    const segment = this.#all.get(name) ?? new OneSegment();
    this.#all.set(name, segment);
    segment.put(after.id, flashMs(after), isInStock(after));
  }
}

class OneSegment implements Segment {
  readonly stock = new Set<ChainId>();
  readonly #flashes = new SumOfIds();

  get size(): number {
    return this.#flashes.size;
  }

  get airtimeMs(): number {
    return this.#flashes.sum;
  }

  put(id: ChainId, ms: number, isInStock: boolean): void {
    this.#flashes.put(id, ms);
    if (isInStock) this.stock.add(id);
  }

  remove(id: ChainId): void {
    this.#flashes.remove(id);
    this.stock.delete(id);
  }
}

/** The segment that the upload of a chain still needs. */
function segmentOf({ upload }: Chain): string | undefined {
  return upload === undefined || isTerminal(upload.state) ? undefined : scarceSegment(upload.spec.target);
}

function isInStock({ compile, upload }: Chain): boolean {
  return upload?.state !== "held" || isInHand(compile?.state);
}
