/** deploy/ and the code say the same. */
import { globSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { flashTotalMsMax, verifyMsMax } from "#protocol/limits.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

/** Folders of what runs on an operator's machine. */
const programs = "{actor,bus,cli,compile-agent,coordinator,toolchain,upload-agent}/**/*.ts";
const units = globSync("deploy/systemd/*.service", { cwd: root });

function variablesIn(glob: string, pattern: RegExp): ReadonlySet<string> {
  const files = globSync(glob, { cwd: root }).filter((path) => statSync(join(root, path)).isFile());
  return new Set(files.flatMap((path) => Array.from(read(path).matchAll(pattern), ([, name = ""]) => name)));
}

test("deploy/ names exactly the variables that the programs read", () => {
  const wanted = variablesIn(programs, /\b(?:env|environment)(?:\.|\[")(FLASHYARD_[A-Z_]+)/g);
  expect(wanted).toContain("FLASHYARD_NATS_URL");
  expect(variablesIn("deploy/**", /\b(FLASHYARD_[A-Z_]+)/g)).toEqual(wanted);
});

test("what the units start is in the tree", () => {
  const lines = units.flatMap((unit) => read(unit).split("\n")).filter((line) => line.startsWith("Exec"));
  const paths = lines.flatMap((line) => line.split(/[= ]/));
  const ours = paths.filter((path) => path.startsWith("/opt/flashyard/"));
  const entries = ["compile-agent/main.ts", "coordinator/main.ts", "upload-agent/main.ts"];
  expect(ours).toEqual(expect.arrayContaining(entries.map((entry) => `/opt/flashyard/${entry}`)));
  for (const path of ours) expect(statSync(path.replace("/opt/flashyard", root)).isFile(), path).toBe(true);
});

test("the upload agent's unit waits for the longest flash and its check", () => {
  const minutes = /^TimeoutStopSec=(\d+)min$/m.exec(read("deploy/systemd/flashyard-upload-agent.service"))?.[1];
  expect(Number(minutes) * 60_000).toBeGreaterThan(flashTotalMsMax + verifyMsMax);
});
