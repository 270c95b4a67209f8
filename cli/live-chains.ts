/** Every live chain, also where they are too many for one message. */
import type { ChainView } from "#protocol/admin.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { Farm } from "#cli/farm.ts";

/** In the order in which they were asked for. @throws UnavailableError */
export async function liveChains(farm: Farm): Promise<readonly ChainView[]> {
  const all: ChainView[] = [];
  for (let after: ChainId | undefined; ; after = all.at(-1)?.chain.id) {
    const of = after === undefined ? {} : { after };
    const { live, isCut } = await farm.ask({ v: 1, kind: "chains", ended: 0, ...of }, "chains");
    all.push(...live);
    if (isCut !== true || live.length === 0) return all;
  }
}
