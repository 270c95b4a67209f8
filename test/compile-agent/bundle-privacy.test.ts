import { mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { inPrivacy } from "#compile-agent/bundle-privacy.ts";
import { abortedStop, failed } from "#toolchain/attempt.ts";
import { ToolOutput } from "#toolchain/tool-output.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const privateFiles = ["lamp.yaml", "secrets.yaml"];

async function folderOfBundle() {
  const folder = await temporaryFolder();
  await writeFile(
    join(folder.path, "lamp.yaml"),
    "wifi:\n  password: !secret wifi\n  ap: { password: fallback pass }\n",
  );
  await writeFile(join(folder.path, "secrets.yaml"), "wifi: hunter2 hunter2\n");
  await writeFile(join(folder.path, "logo.png"), "picture");
  return folder;
}

test("a build's lines and its failure hold no secret, and no configuration is left behind it", async () => {
  await using folder = await folderOfBundle();
  const output = await inPrivacy(folder.path, privateFiles, async (redact) => {
    const made = new ToolOutput(redact);
    return { ok: true, line: made.push("joining Home with hunter2 hunter2, or fallback pass"), tail: made.tail() };
  });
  const line = "joining Home with «secret wifi», or «secret password»";
  expect(output).toEqual({ ok: true, line, tail: [line] });
  expect(await readdir(folder.path)).toEqual(["logo.png"]);
});

test.each([
  ["succeeds", async () => ({ ok: true as const, made: 1 })],
  ["fails", async () => failed({ kind: "internal", detail: "broken" })],
  ["is stopped", async () => abortedStop],
  ["throws", () => Promise.reject(new TypeError("broken"))],
])("nothing is left when it %s", async (_how, build) => {
  await using folder = await folderOfBundle();
  await inPrivacy(folder.path, privateFiles, build).catch(() => undefined);
  expect(await readdir(folder.path)).toEqual(["logo.png"]);
});

test("what a build has put in the place of a configuration goes, and nothing outside of its tree", async () => {
  await using folder = await temporaryFolder();
  await using elsewhere = await temporaryFolder();
  await writeFile(join(elsewhere.path, "secrets.yaml"), "mine: abcdef\n");
  const files = ["lamp.yaml", "common/secrets.yaml"];
  await mkdir(join(folder.path, "common"));
  for (const file of files) await writeFile(join(folder.path, file), "a: b\n");
  await inPrivacy(folder.path, files, async () => {
    await rm(join(folder.path, "common"), { recursive: true });
    await symlink(elsewhere.path, join(folder.path, "common"));
    await rm(join(folder.path, "lamp.yaml"));
    await mkdir(join(folder.path, "lamp.yaml/inside"), { recursive: true });
    return { ok: true };
  });
  expect(await readdir(elsewhere.path)).toEqual(["secrets.yaml"]);
  expect(await readdir(folder.path)).toEqual(["common"]);
});

test("a link that another build has left is not read", async () => {
  await using folder = await temporaryFolder();
  await using elsewhere = await temporaryFolder();
  await writeFile(join(elsewhere.path, "its.yaml"), "password: abcdef\n");
  await symlink(join(elsewhere.path, "its.yaml"), join(folder.path, "lamp.yaml"));
  const result = await inPrivacy(folder.path, ["lamp.yaml"], async (redact) => ({ ok: true, line: redact("abcdef") }));
  expect(result).toEqual({ ok: true, line: "abcdef" });
});

test("no build begins whose secrets are too many to be kept out of its log", async () => {
  await using folder = await temporaryFolder();
  const tooMuch = [
    Array.from({ length: 1_001 }, (_, index) => `s${index}: value${index}\n`).join(""),
    `a: |\n${"  line\n".repeat(1_001)}`,
    `a: ${"x".repeat(1_048_576)}\n`,
  ];
  for (const text of tooMuch) {
    await writeFile(join(folder.path, "secrets.yaml"), text);
    const build = () => Promise.reject(new TypeError("it has begun"));
    expect(await inPrivacy(folder.path, ["secrets.yaml"], build)).toMatchObject({
      failure: { kind: "bundle-refused" },
    });
    expect(await readdir(folder.path)).toEqual([]);
  }
});
