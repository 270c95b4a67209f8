/** Releases of ESPHome, by age. */

/** Below zero when `a` is older than `b`; a beta comes before its release: `2026.10.0b1` < `2026.10.0`. */
export function compareReleases(a: string, b: string): number {
  const [left, right] = [numbersOf(a), numbersOf(b)];
  const differing = left.findIndex((number, index) => number !== right[index]);
  return differing === -1 ? 0 : (left[differing] ?? 0) - (right[differing] ?? 0);
}

function numbersOf(version: string): readonly number[] {
  const [release = "", beta] = version.split("b");
  return [...release.split(".").map(Number), beta === undefined ? Number.POSITIVE_INFINITY : Number(beta)];
}
