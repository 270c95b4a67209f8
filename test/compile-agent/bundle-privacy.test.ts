import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { inPrivacy } from "#compile-agent/bundle-privacy.ts";
import { abortedStop, failed } from "#toolchain/attempt.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const files = ["lamp.yaml", "secrets.yaml", "logo.png"];

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
  const lines: string[] = [];
  const result = await inPrivacy(
    folder.path,
    files,
    (line) => lines.push(line),
    async (onLine) => {
      onLine("joining Home with hunter2 hunter2, or fallback pass");
      return failed({ kind: "compiler-exit", exitCode: 1, tail: ['#define PASSWORD "hunter2 hunter2"'] });
    },
  );
  expect(lines).toEqual(["joining Home with «secret wifi», or «secret password»"]);
  expect(result).toMatchObject({ failure: { tail: ['#define PASSWORD "«secret wifi»"'] } });
  expect(await readdir(folder.path)).toEqual(["logo.png"]);
});

test.each([
  ["succeeds", async () => ({ ok: true as const, made: 1 })],
  ["is stopped", async () => abortedStop],
  ["throws", () => Promise.reject(new TypeError("broken"))],
])("nothing is left when it %s", async (_how, build) => {
  await using folder = await folderOfBundle();
  await inPrivacy(folder.path, files, () => undefined, build).catch(() => undefined);
  expect(await readdir(folder.path)).toEqual(["logo.png"]);
});
