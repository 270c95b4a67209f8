/**
 * Multicast DNS against a peer that nobody of this project wrote: python-zeroconf, as ESPHome's own programs use it. It announces a
 * device that our browser finds, and its browser finds our simulated device.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { z } from "zod";
import { mdnsPort } from "#upload-agent/mdns-link.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { type EsphomeTool, findEsphome } from "#test/support/host-firmware.ts";
import { MulticastBench } from "#test/support/multicast-bench.ts";

const peer = join(import.meta.dirname, "../fixtures/zeroconf-peer.py");
const name = "zeroconf-lamp";
const Line = z.looseObject({ kind: z.string() });

let tool: EsphomeTool;
let bench: MulticastBench;
let child: ChildProcess | undefined;

beforeAll(async () => {
  tool = await findEsphome();
});
beforeEach(async () => {
  bench = await MulticastBench.open(mdnsPort);
});
afterEach(async () => {
  if (child?.exitCode === null && child.kill()) await once(child, "exit");
  await bench[Symbol.asyncDispose]();
});

function start(...argv: readonly string[]): Arrivals<z.infer<typeof Line>> {
  const lines = new Arrivals<z.infer<typeof Line>>("line of python-zeroconf");
  child = spawn(tool.python, [peer, ...argv], { env: tool.variables, stdio: ["pipe", "pipe", "inherit"] });
  if (child.stdout !== null)
    createInterface(child.stdout).on("line", (line) => lines.push(Line.parse(JSON.parse(line))));
  return lines;
}

const announced = {
  name,
  mac: "02:00:00:00:AA:02",
  host: `${name}.local`,
  addresses: ["127.0.0.9", "fd00::9"],
  port: 6_053,
  version: "2026.10.0",
  configHash: "12345678",
  network: "ethernet",
};

test("a device that zeroconf announces is seen when it joins, and found when it is there already", async () => {
  const early = await bench.mdns();
  const lines = start("announce", name, "6053", "02000000aa02", "127.0.0.9");
  expect(await bench.sightings.next((sighting) => sighting.name === name)).toMatchObject(announced);
  await lines.next(({ kind }) => kind === "announced");
  await early.stop();
  const count = bench.sightings.all.length;
  const late = await bench.mdns();
  expect(await bench.sightings.next(() => bench.sightings.all.length > count)).toMatchObject({ name });
  expect(bench.sightings.all.at(-1)).toMatchObject(announced);
  const options = { withinMs: 5_000, signal: new AbortController().signal };
  expect(await late.resolve(`${name}.local`, options)).toEqual(["127.0.0.9", "fd00::9"]);
});

test.each([false, true])(
  "our device is found by zeroconf's browser and by ESPHome's resolver (terse: %s)",
  async (isTerse) => {
    const lines = start("browse", name);
    await lines.next(({ kind }) => kind === "browsing");
    await bench.device({ name, mac: "02000000aa03", address: "127.0.0.8", isTerse });
    const found = await lines.next(({ kind }) => kind === "found");
    expect(found).toMatchObject({ port: 6_053, server: `${name}.local.`, resolved: ["127.0.0.8"] });
    expect(found["texts"]).toMatchObject({ mac: "02000000aa03", version: "2026.10.0", config_hash: "0badcafe" });
  },
);
