/** `flashyard audit` against a real server and coordinator. */
import { hostname, userInfo } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { auditLine } from "#cli/commands/audit.ts";
import { chainNumber, configurationNamed } from "#test/support/farm-builders.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";

let farm: CliFarm;

beforeAll(async () => {
  farm = await CliFarm.start();
});
afterAll(() => farm[Symbol.asyncDispose]());

const me = `${userInfo().username}@${hostname()}`;

test("an empty audit says so, and what was asked stands in it with who says to have asked", async () => {
  expect((await farm.within("audit")).err).toBe("nobody has asked for a change in this time\n");
  await farm.within("drain", "build-1");
  await farm.within("undrain", "build-1");
  const { out, code } = await farm.within("audit");
  expect(code).toBe(0);
  expect(out.split("\n").map((line) => line.slice(line.indexOf("  ") + 2))).toEqual([
    `${me}  drain; drained; build-1`,
    `${me}  drain; given work again; build-1`,
    "",
  ]);
});

test("the newest are shown by number, and as JSON with everything", async () => {
  await farm.within("device", "hold", "lamp", "--reason", "on the roof");
  const { out } = await farm.within("audit", "--limit", "1", "--json");
  expect(jsonLines(out)).toMatchObject([
    { kind: "hold-device", by: me, configurations: ["lamp"], detail: "on hold: on the roof" },
  ]);
  expect(jsonLines((await farm.within("audit", "--since", "1h", "--json")).out)).toHaveLength(3);
});

test("who follows hears what is asked later", async () => {
  const follower = farm.spawn("audit", "--follow", "--limit", "1");
  await follower.prints(/hold-device/);
  await farm.within("drain", "flash-1");
  await follower.prints(/drain; drained; flash-1/);
});

test("a line shows no escape codes of others, and counts what are many", () => {
  const configurations = Array.from({ length: 5 }, (_, index) => configurationNamed(`device ${index}`));
  const line = auditLine({
    v: 1,
    at: 0,
    name: "ann",
    by: "\u001B[31mroot@here",
    kind: "submit",
    chains: [chainNumber(1)],
    configurations,
    detail: "5 install",
  });
  expect(line).toMatch(
    /^1970-01-01T00:00:00\.000Z {2}ann \(says .*root@here\) {2}submit; 5 install; 5 configurations; /,
  );
  expect(line).not.toContain("\u001B");
});
