/** A compile agent as the process that it is: what it makes of its settings, as the farm hears it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import { watchPresence } from "#bus/presence.ts";
import { declareTopology } from "#bus/topology.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import type { Announcement } from "#protocol/agent.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed, configurationNamed } from "#test/support/farm-builders.ts";
import { testServer } from "#test/support/nats-server.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const main = join(import.meta.dirname, "../../compile-agent/main.ts");

/** Trees of 400 kB, used one after the other. */
async function warm(folder: string, names: readonly string[]): Promise<void> {
  let measured = Promise.withResolvers<void>();
  let now = 0;
  const clock = { ...systemClock, now: () => (now += 1_000) };
  const workspace = new Workspace(folder, { clock, onMeasured: () => measured.resolve() });
  for (const name of names) {
    measured = Promise.withResolvers();
    const tree = { version: "2026.10.0", configuration: configurationNamed(name) };
    await workspace.withTree(tree, undefined, ({ source }) =>
      writeFile(join(source, "object.o"), Buffer.alloc(400_000)),
    );
    await measured.promise;
  }
}

test("labels and pins are in the first statement, and trees beyond the limit in none after it", async () => {
  await using home = await temporaryFolder();
  await using server = await testServer();
  const connection = await server.connect();
  await declareTopology(connection);
  const heard = new Arrivals<Announcement>("statement");
  const watching = new AbortController();
  void watchPresence(connection, watching.signal, heard.push).catch(() => undefined);
  await warm(join(home.path, "build"), ["lamp", "fan", "stairs"]);
  const child = spawn(process.execPath, [main], {
    env: plainEnvironment({
      FLASHYARD_NATS_URL: server.url,
      FLASHYARD_AGENT: agentNamed("builder"),
      FLASHYARD_HOME: home.path,
      FLASHYARD_CACHE: join(home.path, "cache"),
      FLASHYARD_LOG: "silent",
      FLASHYARD_LABELS: "fast,attic",
      FLASHYARD_PLATFORMS: "esp32",
      FLASHYARD_ESPHOME_VERSIONS: "2026.10.0",
      FLASHYARD_TREES_GB: "0.001",
    }),
    stdio: ["ignore", "inherit", "inherit"],
  });
  const exit = once(child, "exit");
  try {
    const first = await heard.next();
    expect(first).toMatchObject({
      labels: ["fast", "attic"],
      compile: { pinnedPlatforms: ["esp32"], pinnedVersions: ["2026.10.0"] },
    });
    const last = await heard.next(({ compile }) => compile?.warm.length === 2);
    expect(last.compile?.warm.map((tree) => tree.configuration)).toEqual(["stairs", "fan"]);
  } finally {
    watching.abort();
    child.kill("SIGTERM");
    await exit;
  }
});
