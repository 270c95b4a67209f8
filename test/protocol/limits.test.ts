/** docs/limits.md says what the code does: every limit is there, with its value, its reason and its consequence. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import * as limits from "#protocol/limits.ts";
import { codeIn, numberIn, numbersOf, rowsUnder } from "#test/support/limits-page.ts";

const root = join(import.meta.dirname, "../..");
const stages = rowsUnder("Stages of a job");
const agreed = rowsUnder("What the rooms agree on");
const local = rowsUnder("What one file needs");
const nameOf = ([cell]: readonly string[]) => codeIn(cell)[0] ?? "";
const sourcesIn = (room: string) =>
  readdirSync(join(root, room), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
const textOf = (path: string) => readFileSync(join(root, path), "utf8");

test("every stage is on the page with both of its limits", () => {
  const documented = stages.map((row) => [nameOf(row), { silenceMs: numberIn(row[1]), totalMs: numberIn(row[2]) }]);
  const exported = Object.entries<limits.StageLimit>(limits.stageLimits).map(([stage, { silenceMs, totalMs }]) => [
    stage,
    { silenceMs, totalMs },
  ]);
  expect(documented).toEqual(exported);
});

test("every number that the rooms agree on is on the page with its value", () => {
  const numbers = Object.entries(limits).filter(([, value]) => typeof value === "number");
  expect(Object.fromEntries(agreed.map((row) => [nameOf(row), numberIn(row[1])]))).toEqual(Object.fromEntries(numbers));
});

test("every number of one file has the value that the page says", () => {
  for (const row of [...local, ...rowsUnder("What the coordinator and the command line need")]) {
    const [path = ""] = codeIn(row[4]);
    expect([path, nameOf(row), numbersOf(textOf(path), nameOf(row))]).toEqual([
      path,
      nameOf(row),
      expect.arrayContaining([numberIn(row[1])]),
    ]);
  }
});

test("every limit in a room of the agents, and in what they stand on, is on the page", () => {
  const units = new Set(["nanosPerMs", "dayMs"]);
  const documented = new Set(local.map((row) => `${codeIn(row[4])[0]} ${nameOf(row)}`));
  const missing = ["compile-agent", "upload-agent", "toolchain", "actor", "bus"].flatMap((room) =>
    sourcesIn(room).flatMap((file) => {
      const path = `${room}/${file}`;
      const found = [...textOf(path).matchAll(/^(?:export )?const (\w+(?:Ms|Max))(?:: \w+)? = [\d_ *+-]+;/gm)];
      return found
        .map(([, name = ""]) => name)
        .filter((name) => !units.has(name) && !documented.has(`${path} ${name}`))
        .map((name) => `${path} ${name}`);
    }),
  );
  expect(missing).toEqual([]);
});

test("every row has a reason, a consequence and places that exist", () => {
  for (const row of [...stages, ...agreed, ...local]) {
    const [why, consequence, where] = row.slice(-3);
    expect(row.length).toBeGreaterThanOrEqual(5);
    for (const cell of [why, consequence]) expect(`${nameOf(row)}: ${cell}`).toMatch(/: \S/);
    const paths = codeIn(where);
    expect(paths.length).toBeGreaterThan(0);
    for (const path of paths) expect(existsSync(join(root, path))).toBe(true);
  }
});
