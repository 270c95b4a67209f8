/**
 * `npm run demo`: the main job on this machine, with nothing simulated. Six ESPHome devices run as processes; a farm of two
 * compile agents and one upload agent builds their configurations and flashes them; then one is changed and installed again.
 *
 * Everything is asked for through the command line, as a user would. Exit code 0 only if each device itself reports the
 * new build.
 */
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { defaultCacheFolder } from "#actor/agent-settings.ts";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { onShutdown } from "#actor/shutdown.ts";
import type { Chain } from "#protocol/chain.ts";
import { isFarmError, messageOf, UnavailableError } from "#protocol/errors.ts";
import type { Connection } from "#bus/connection.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { type LocalFarm, startLocalFarm } from "#cli/local-farm.ts";
import { factoryConfiguration } from "#simulator/factory-devices.ts";
import { askDevice } from "#upload-agent/native-api.ts";
import { type DemoDevice, readDevices, startDevices } from "#demo/demo-devices.ts";
import { rowOf, seconds, summarise, table } from "#demo/report.ts";

const root = join(import.meta.dirname, "..");
/** Kept between runs, so that the second run finds warm build trees. */
const home = join(root, ".flashyard", "demo");
const changed = "porch-lamp";

const stopping = new AbortController();

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The command line, as a user would type it. @throws UnavailableError when it does not end with 0. */
async function flashyard(farm: LocalFarm, ...args: readonly string[]): Promise<void> {
  say(`\n$ flashyard ${args.join(" ")}`);
  const env = { ...process.env, FLASHYARD_NATS_URL: farm.url, FLASHYARD_CREDENTIALS: farm.credentials };
  const child = spawn(process.execPath, [join(root, "cli/main.ts"), ...args], { cwd: home, env, stdio: "inherit" });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0)
    throw new UnavailableError("command-failed", `flashyard ${args[0] ?? ""} ended with ${code ?? "a signal"}`);
}

/** The chains of this run that had an upload, oldest first. */
async function installs(connection: Connection, since: number): Promise<readonly Chain[]> {
  const answer = await askAdmin(connection, { v: 1, kind: "chains", ended: 50 });
  if (answer.kind !== "chains") throw new UnavailableError("no-chains", "the coordinator does not tell its chains");
  // A chain stays among the live ones for a moment after its end, and may then stand in both.
  const all = [...answer.live.map(({ chain }) => chain), ...answer.ended];
  return [...new Map(all.map((chain) => [chain.id, chain])).values()]
    .filter((chain) => chain.createdAt >= since && chain.upload !== undefined)
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

async function reportOf({ target }: DemoDevice) {
  const answer = await askDevice(target, { signal: stopping.signal, timeoutMs: 5_000 });
  return answer.kind === "answered" ? answer.report : undefined;
}

async function untilAllAnswer(devices: readonly DemoDevice[]): Promise<void> {
  const all = await poll(systemClock, { everyMs: 50, withinMs: 20_000, signal: stopping.signal }, async () => {
    const reports = await Promise.all(devices.map(reportOf));
    return reports.every((report) => report !== undefined) ? true : undefined;
  });
  if (all !== true)
    throw new UnavailableError("devices-silent", `the devices do not come up; see ${join(home, "devices")}`);
}

/** A new value in the configuration's sensor, different at each run. */
async function changeConfiguration(file: string): Promise<void> {
  const yaml = await readFile(file, "utf8");
  const value = (Date.now() / 1000).toFixed(0);
  await writeFile(file, yaml.replace(/lambda: return .*;/, `lambda: return ${value};`));
}

async function demo(): Promise<boolean> {
  const begunAt = performance.now();
  const configurations = join(home, "configurations");
  await mkdir(home, { recursive: true, mode: 0o700 });
  await rm(configurations, { recursive: true, force: true });
  await cp(join(root, "examples/host"), configurations, { recursive: true });
  await cp(factoryConfiguration, join(home, "factory.yaml"));
  const devices = await readDevices(configurations);

  await using farm = await startLocalFarm({
    home,
    cacheFolder: defaultCacheFolder(process.env),
    port: await freePort(),
    serverBinary: process.env.FLASHYARD_NATS_SERVER,
    agents: [
      { name: "build-1", lane: "compile", slots: 1 },
      { name: "build-2", lane: "compile", slots: 1 },
      { name: "flash-1", lane: "upload", slots: 2 },
    ],
    logLevel: "info",
    // Its devices announce themselves nowhere.
    variables: { FLASHYARD_MDNS: "off" },
    signal: stopping.signal,
    say,
  });
  say(`a farm of build-1, build-2 and flash-1 runs behind ${farm.url}`);
  const { connection } = await signIn({ path: farm.credentials, servers: farm.url, name: "flashyard demo" });
  try {
    say("\nThe factory: one firmware for devices that have none yet, built by the farm as well.");
    await flashyard(farm, "build", "factory.yaml", "--output", "factory");
    await using _devices = await startDevices(devices, join(home, "factory", "program"), join(home, "devices"));
    await untilAllAnswer(devices);
    say(`\n${devices.length} ESPHome devices run with it: ${devices.map(({ name }) => name).join(", ")}`);

    const since = Date.now();
    await flashyard(farm, "install", "--all", "--folder", "configurations");
    const first = summarise(await installs(connection, since));
    say(`\nOne configuration is changed: ${changed}`);
    await changeConfiguration(join(configurations, `${changed}.yaml`));
    await flashyard(farm, "install", join("configurations", `${changed}.yaml`));

    const newest = new Map((await installs(connection, since)).map((chain) => [chain.configuration as string, chain]));
    const rows = [];
    for (const device of devices) {
      const chain = newest.get(device.name);
      if (chain !== undefined) rows.push(rowOf(chain, await reportOf(device)));
    }
    say(`\n${table(rows)}\n`);
    say(
      `first install: all done after ${seconds(first.makespanMs)}; its steps one after another: ${seconds(first.sumMs)}`,
    );
    say(
      `${first.reused} of ${devices.length} builds were there already; up to ${first.mostBuildsAtOnce} at once; ` +
        `builds and flashes overlapped for ${seconds(first.overlapMs)}`,
    );
    say(`the whole demo took ${seconds(performance.now() - begunAt)}`);
    return rows.length === devices.length && rows.every((row) => row.isNewBuild);
  } finally {
    await connection.close();
  }
}

onShutdown(async () => stopping.abort());
try {
  const isGood = await demo();
  if (!isGood) say("not every device reports its new build");
  process.exitCode = isGood ? 0 : 1;
} catch (error) {
  process.stderr.write(`demo: ${messageOf(error)}\n`);
  if (!isFarmError(error)) throw error;
  process.exitCode = stopping.signal.aborted ? 130 : 1;
}
