/** Versions of nats-server: which one the farm asks for, which it accepts, and how two of them compare. Pure. */

/** What a farm gets when nothing usable is there yet and Go is; the other sources give the nearest they have. */
export const serverVersionPinned = "2.15.2";

/**
 * Older servers drop `allow_atomic` without a word and store the messages of a batch singly (2.9 to 2.11, measured), or refuse
 * valid batches that guard several subjects of equal length (up to 2.14.3).
 */
export const serverVersionMin = "2.14.4";

export interface ServerVersion {
  readonly numbers: readonly [major: number, minor: number, patch: number];
  /** Identifiers behind the dash (`RC.1` is `["RC", "1"]`); empty for a release. */
  readonly preRelease: readonly string[];
}

const pattern = /^v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/;

/** Reads `2.15.2`, `v2.15.2`, `2.15.2-RC.1`; build metadata behind a plus sign does not count. `undefined` for anything else. */
export function parseServerVersion(text: string): ServerVersion | undefined {
  const match = pattern.exec(text.trim());
  if (match === null) return undefined;
  const [, major, minor, patch, preRelease] = match;
  return {
    numbers: [Number(major), Number(minor), Number(patch)],
    preRelease: preRelease === undefined ? [] : preRelease.split("."),
  };
}

/** Negative when `a` is older, 0 when neither is. Order of semver 2.0.0, section 11: a pre-release is older than its release. */
export function compareServerVersions(a: ServerVersion, b: ServerVersion): number {
  const difference = a.numbers[0] - b.numbers[0] || a.numbers[1] - b.numbers[1] || a.numbers[2] - b.numbers[2];
  if (difference !== 0) return difference;
  if (a.preRelease.length === 0 || b.preRelease.length === 0) return b.preRelease.length - a.preRelease.length;
  for (const [index, left] of a.preRelease.entries()) {
    const right = b.preRelease[index];
    if (right === undefined) return 1;
    const order = compareIdentifiers(left, right);
    if (order !== 0) return order;
  }
  return a.preRelease.length - b.preRelease.length;
}

function compareIdentifiers(left: string, right: string): number {
  const isNumber = (text: string) => /^\d+$/.test(text);
  if (isNumber(left) && isNumber(right)) return Number(left) - Number(right);
  if (isNumber(left) !== isNumber(right)) return isNumber(left) ? -1 : 1;
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Whether the farm works with a server that calls itself `text`. What cannot be read is not accepted. */
export function isServerVersionAccepted(text: string): boolean {
  const found = parseServerVersion(text);
  const needed = parseServerVersion(serverVersionMin);
  return found !== undefined && needed !== undefined && compareServerVersions(found, needed) >= 0;
}
