/** Reads docs/state-machine.md, so that tests can compare it with the table in `protocol/job.ts`. */
import { readFileSync } from "node:fs";

const page = () => readFileSync(new URL("../../docs/state-machine.md", import.meta.url), "utf8");

/** Steps that the diagram draws, as `from → to`. */
export function drawnSteps(): ReadonlySet<string> {
  const diagram = /```mermaid\n([\s\S]*?)```/.exec(page())?.[1] ?? "";
  const steps = [...diagram.matchAll(/^\s*(\w+) --> (\w+)/gm)].map(([, from, to]) => `${from} → ${to}`);
  return new Set(steps);
}

/** Steps that the tables list under a heading, as `from → to`. */
function listedUnder(heading: string): readonly string[] {
  const section = page().split(`## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  return [...section.matchAll(/^\| `(\w+)` \| `(\w+)` \| \S/gm)].map(([, from, to]) => `${from} → ${to}`);
}

/** Steps with a cause. */
export function documentedSteps(): ReadonlySet<string> {
  return new Set(listedUnder("Every step and its cause"));
}

/** Steps that are legal, and that no event causes yet. */
export function reservedSteps(): ReadonlySet<string> {
  return new Set(listedUnder("Legal, and not taken yet"));
}
