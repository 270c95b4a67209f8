import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type FarmKeys, farmKeysIn, readFarmKeys } from "#bus/identity/farm-keys.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const publicOf = ({ operator, system, farm, edge }: FarmKeys) =>
  [operator, system, farm, edge].map((pair) => pair.getPublicKey());

test("keys are made once, whoever comes first, and only their owner reads them", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "identity", "keys.json");
  expect(await readFarmKeys(path)).toBeUndefined();
  const [one, other] = await Promise.all([farmKeysIn(path), farmKeysIn(path)]);
  expect(publicOf(one)).toEqual(publicOf(other));
  expect(new Set(publicOf(one)).size).toBe(4);
  expect(publicOf(await farmKeysIn(path))).toEqual(publicOf(one));
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await stat(join(folder.path, "identity"))).mode & 0o777).toBe(0o700);
});

test("keys that others may read are not used", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "keys.json");
  await farmKeysIn(path);
  await chmod(path, 0o640);
  await expect(farmKeysIn(path)).rejects.toMatchObject({
    code: "bad-keys",
    message: expect.stringContaining(`chmod 600 ${path}`),
  });
});

test.each(["", "{", '{"v":2}', '{"v":1,"operator":"SUAAA"}'])(
  "a file that says %j is never taken for keys, nor replaced",
  async (text) => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "keys.json");
    await writeFile(path, text, { mode: 0o600 });
    await expect(farmKeysIn(path)).rejects.toMatchObject({ code: "bad-keys" });
    expect(await readFile(path, "utf8")).toBe(text);
  },
);
