/** What a bulk would take if nothing but its builds and its flashes took time. Pure. */

export interface Pipeline {
  readonly chains: number;
  readonly buildMs: number;
  readonly uploadMs: number;
  /** Of all compile agents together. */
  readonly compileSlots: number;
  readonly uploadSlots: number;
}

/**
 * The end of the last flash, when each build starts the moment a slot is free and each flash the moment its build is done and a
 * slot is free. Nothing is faster where all builds take equally long, and all flashes.
 */
export function idealMs({ chains, buildMs, uploadMs, compileSlots, uploadSlots }: Pipeline): number {
  const compilers = Array.from({ length: compileSlots }, () => 0);
  const flashers = Array.from({ length: uploadSlots }, () => 0);
  let last = 0;
  for (let chain = 0; chain < chains; chain += 1) {
    const built = takeSlot(compilers, 0, buildMs);
    last = Math.max(last, takeSlot(flashers, built, uploadMs));
  }
  return last;
}

/** Takes the slot that is free first. @returns when the job ends */
function takeSlot(freeAt: number[], notBefore: number, ms: number): number {
  const first = freeAt.indexOf(Math.min(...freeAt));
  const end = Math.max(notBefore, freeAt[first] ?? 0) + ms;
  freeAt[first] = end;
  return end;
}
