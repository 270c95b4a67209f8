/** The demo as a user runs it, with whatever trees it has left here before. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { runningWith } from "#test/support/process-table.ts";

const root = join(import.meta.dirname, "../..");
const devices = ["attic-fan", "garage-door", "garden-pump", "hall-sensor", "kitchen-light", "porch-lamp"];

test("`npm run demo` ends with 0, all six devices report their new builds, and nothing of it is left running", async () => {
  const lines: string[] = [];
  const { end, tail } = await runProcess({
    argv: [process.execPath, join(root, "demo/main.ts")],
    cwd: root,
    env: plainEnvironment(),
    onLine: (line) => lines.push(line),
    totalMs: 280_000,
  });
  expect({ end, tail: end.kind === "exited" && end.exitCode === 0 ? [] : tail }).toEqual({
    end: { kind: "exited", exitCode: 0 },
    tail: [],
  });
  const header = lines.findIndex((line) => /device .*new build$/.test(line));
  const rows = lines.slice(header + 1, header + 1 + devices.length);
  expect(rows.map((row) => [row.split(/\s+/)[0], row.split(/\s+/).at(-1)])).toEqual(
    devices.map((name) => [name, "yes"]),
  );
  expect(
    lines.filter((line) => /^first install|builds were there already; up to \d+ at once|^the whole demo/.test(line)),
  ).toHaveLength(3);
  process.stdout.write(`${lines.slice(-3).join("\n")}\n`);
  expect(runningWith([join(root, ".flashyard/demo")])).toEqual([]);
});
