/** Hostile text on its way to a terminal and into `--json`: by every cleaner that stands before one, and by the command line itself. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { jsonLine, shown } from "#cli/clean-text.ts";
import { cleanLine, ToolOutput } from "#toolchain/tool-output.ts";
import { plainText } from "#upload-agent/device-text.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";
import { harmful, hostileTexts } from "#test/hostile/text.ts";

describe.each(hostileTexts)("%s", (_name, text) => {
  test("leaves every cleaner without what a terminal obeys", () => {
    const texts = [shown(text), cleanLine(text), plainText(Buffer.from(text)), new ToolOutput().push(text)];
    for (const one of texts) expect(one).not.toMatch(harmful);
  });

  test("is escaped in JSON, and the same when it is read", () => {
    const line = jsonLine({ text });
    expect(line).not.toMatch(harmful);
    expect(JSON.parse(line)).toEqual({ text });
  });
});

let farm: CliFarm;
beforeAll(async () => {
  farm = await CliFarm.start();
  await farm.fakeEsphome();
});
afterAll(() => farm[Symbol.asyncDispose]());

test("a build log full of it is followed, listed and read without harm, and the job ends well", async () => {
  const folder = join(farm.home.path, "blink");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "main.c"), "int main(void) { return 0; }");
  // NUL cannot stand in an argument.
  const lines = hostileTexts.map(([, text]) => text).filter((text) => !text.includes("\u0000"));
  const argv = ["build", folder, "--rebuild", "--artifact", "*.bin"];
  for (const json of [[], ["--json"]]) {
    const built = await farm.within(...argv, ...json, "--", "succeed", ...lines);
    expect(built.code).toBe(0);
    for (const command of [["logs", "blink"], ["history"], ["ps", "--all"], ["explain", "blink"]]) {
      const told = await farm.within(...command, ...(command[0] === "explain" ? [] : json));
      expect(told.code).toBe(0);
      expect(told.out + told.err + built.out + built.err).not.toMatch(harmful);
      if (json.length > 0 && command[0] === "logs") expect(jsonLines(told.out).length).toBeGreaterThan(20);
    }
  }
});

test.each(hostileTexts)("%s as a name is refused by the command line in clean words", async (_name, text) => {
  for (const argv of [
    ["cancel", text],
    ["logs", text],
    ["device", "hold", text],
    ["drain", text],
    ["install", text],
  ]) {
    const { code, out, err } = await farm.within(...argv);
    expect([1, 2]).toContain(code);
    expect(out + err).not.toMatch(harmful);
    expect(out + err).not.toMatch(/bug in flashyard/);
  }
});

const yaml: readonly (readonly [string, string])[] = [
  ["an alias of nothing", "esphome: *nothing\n"],
  ["100,000 open lists", "[".repeat(100_000)],
  ["20,000 lists within one another", `a: ${"[".repeat(20_000)}${"]".repeat(20_000)}\n`],
  ["an alias of itself", ".flashyard: &a {esphome: *a}\n"],
  ["a block that is a list", ".flashyard: [1]\n"],
  ["a block of another file", ".flashyard: !include ../../../etc/passwd\n"],
  ["a prototype", ".flashyard: {__proto__: {baud: 9600}}\n"],
  ["a setting that clears the screen", '.flashyard: {"a\\e[2Jharm": 1}\n'],
  ["a tag of Python", ".flashyard: !!python/object:os.system {harm: 1}\n"],
  ["half a line", 'a: "b'],
  ["zeros", "\u0000\u0000\u0000"],
];
test.each(yaml)("a configuration with %s is refused in clean words, and is no bug", async (_name, text) => {
  const file = join(farm.home.path, "lamp.yaml");
  await writeFile(file, text);
  for (const command of ["install", "build"]) {
    const { code, out, err } = await farm.within(command, file);
    expect(code).toBe(2);
    expect(err).toContain("lamp.yaml");
    expect(out + err).not.toMatch(harmful);
    expect(out + err).not.toMatch(/bug in flashyard/);
  }
});
