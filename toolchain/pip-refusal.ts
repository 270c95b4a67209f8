/** Reads pip's refusals: which versions exist, which Python they want, or that the index was out of reach. */
import { satisfies } from "#toolchain/python.ts";

export type PipRefusal =
  /** The release exists, but not for this Python. `requires` is its `Requires-Python`. */
  | { readonly kind: "other-python"; readonly requires: string }
  /** The index answered and has no such release; `nearest` are existing ones, closest first, at most five. */
  | { readonly kind: "no-such-version"; readonly nearest: readonly string[] }
  /** Anything else: the index is out of reach, a dependency is missing, a wheel does not build. One line of pip's own. */
  | { readonly kind: "other"; readonly detail: string }
  | { readonly kind: "disk-full" };

/** @param output everything that pip printed, both streams; the line that lists all versions is longer than 4 KiB. */
export function readPipRefusal(output: string, distribution: string, version: string, python: string): PipRefusal {
  if (isDiskFull(output)) return { kind: "disk-full" };
  // An index that does not list `Requires-Python` lets pip find out by the package itself, or by one that it needs.
  const late = /requires a different Python: \S+ not in ['"]([^'"]+)['"]/.exec(output)?.[1];
  if (late !== undefined) return { kind: "other-python", requires: late };
  const wanted = `${distribution}==${version}`;
  const others = ignoredVersions(output);
  if (output.includes(`No matching distribution found for ${wanted}`)) {
    const requires = others.get(version);
    if (requires !== undefined && !satisfies(python, requires)) return { kind: "other-python", requires };
    const listed = /\(from versions: ([^)]*)\)/.exec(output)?.[1] ?? "none";
    const existing = listed === "none" ? [] : listed.split(", ");
    // Without any version the index itself did not answer; that says nothing about the release.
    const all = [...existing, ...others.keys()];
    if (all.length > 0) return { kind: "no-such-version", nearest: nearestVersions(version, all) };
  }
  return { kind: "other", detail: lastErrorOf(output) };
}

/** Whether a tool's output says that the disk is full. */
export function isDiskFull(output: string): boolean {
  return /No space left on device|Disk quota exceeded|\[Errno 28\]/.test(output);
}

/** From `ERROR: Ignored the following versions that require a different python version: 2026.7.0 Requires-Python >=3.12; …`. */
function ignoredVersions(output: string): ReadonlyMap<string, string> {
  const line = /require a different python version: (.*)/.exec(output)?.[1] ?? "";
  const pairs = line.split(";").map((entry) => entry.trim().split(" Requires-Python "));
  return new Map(pairs.flatMap(([version, requires]) => (version && requires ? [[version, requires] as const] : [])));
}

/** Releases of the same month first, then by distance on the calendar; betas only where a beta was asked for. */
function nearestVersions(wanted: string, existing: readonly string[]): readonly string[] {
  const numbers = (version: string) => version.split(/[.b]/).map(Number);
  const place = (version: string) => {
    const [year = 0, month = 0, patch = 0] = numbers(version);
    return (year * 12 + month) * 100 + patch;
  };
  return existing
    .filter((version) => /^[\d.]+$/.test(version) || (wanted.includes("b") && /b\d+$/.test(version)))
    .toSorted((a, b) => Math.abs(place(a) - place(wanted)) - Math.abs(place(b) - place(wanted)))
    .slice(0, 5);
}

function lastErrorOf(output: string): string {
  const lines = output.split(/\r?\n/).map((line) => line.trim());
  const telling = lines.findLast((line) =>
    /^(WARNING: Retrying|.*(connection broken|ConnectionError|timed out))/i.test(line),
  );
  const error = telling ?? lines.findLast((line) => line.startsWith("ERROR:")) ?? lines.findLast((line) => line !== "");
  return (error ?? "pip said nothing").slice(0, 300);
}
