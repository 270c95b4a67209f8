/** The few statistics of the benchmark. Pure. */

function sorted(values: readonly number[]): readonly number[] {
  return [...values].sort((a, b) => a - b);
}

/** Nearest rank: the smallest value that at least `percent` of all do not exceed. NaN for no values. */
export function percentile(values: readonly number[], percent: number): number {
  const rank = Math.max(1, Math.ceil((percent / 100) * values.length));
  return sorted(values)[rank - 1] ?? Number.NaN;
}

/** The middle value, or the mean of the middle two. NaN for no values. */
export function median(values: readonly number[]): number {
  const ordered = sorted(values);
  const upper = ordered[Math.floor(ordered.length / 2)] ?? Number.NaN;
  const lower = ordered[Math.ceil(ordered.length / 2) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}
