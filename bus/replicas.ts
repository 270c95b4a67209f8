/** On how many servers each stream lies. Pure. */
import { UsageError } from "#protocol/errors.ts";

/** `auto`: three in a cluster, as it has been set otherwise. */
export type ReplicaWish = "auto" | 1 | 3 | 5;

/** An even number survives no more losses than the odd one below it. */
const numbers = [1, 3, 5] as const;
/** One server may be lost, and the two others are still more than half. */
const inCluster = 3;

/** FLASHYARD_REPLICAS. @throws UsageError `bad-setting` */
export function replicaWish(text: string | undefined): ReplicaWish {
  if (text === undefined || text === "" || text === "auto") return "auto";
  const found = numbers.find((number) => String(number) === text);
  if (found !== undefined) return found;
  throw new UsageError("bad-setting", `FLASHYARD_REPLICAS is ${JSON.stringify(text)}, and must be auto, 1, 3 or 5`);
}

/** `auto` raises and never lowers: a server that is down for the moment must not cost the others their copies. */
export function replicasFor(wish: ReplicaWish, isClustered: boolean, before = 1): number {
  if (wish !== "auto") return wish;
  return isClustered ? Math.max(before, inCluster) : before;
}
