/** A real `esphome compile` inside the sandbox, and what it costs. */
import { cp, mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { buildWithEsphome } from "#compile-agent/esphome-driver.ts";
import { chooseSandbox } from "#compile-agent/sandbox/choose.ts";
import { plainSandbox } from "#compile-agent/sandbox/sandbox.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import { Configuration } from "#protocol/ids.ts";
import { EsphomeBuildSpec } from "#protocol/job.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { inflate } from "#test/support/bundle-tar.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const version = "2026.10.0";
const cacheFolder = process.env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard");
const environments = new EsphomeEnvironments({ cacheFolder, clock: systemClock });
const example = join(import.meta.dirname, "../../examples/host");

test("ESPHome builds in bubblewrap what it builds without, cold and warm", async () => {
  await using home = await temporaryFolder();
  const agent = join(home.path, "agent");
  await mkdir(agent);
  await cp(example, join(home.path, "conf"), { recursive: true });
  await using _use = await environments.use(version);
  const ensured = await environments.ensure(version);
  if (!ensured.ok) throw new Error(JSON.stringify(ensured));
  const bundle = await makeBundle(ensured.env, join(home.path, "conf", "porch-lamp.yaml"));
  if (!bundle.ok) throw new Error(JSON.stringify(bundle));
  const limits = { memoryBytesMax: 4e9, processesMax: 512, diskBytesMax: 10e9, readable: [] };
  const bubblewrap = await chooseSandbox(
    "bubblewrap",
    { ...limits, hasNetwork: true, sharesTools: true },
    { home: agent, sharedHome: join(home.path, "builds-home") },
  );
  for (const sandbox of [plainSandbox, bubblewrap]) {
    const workspace = new Workspace(join(agent, sandbox.level));
    for (const isWarm of [false, true]) {
      const inflated = await inflate(bundle.bytes, home.path);
      if (!inflated.ok) throw new Error(JSON.stringify(inflated));
      const lines: string[] = [];
      const startedAt = performance.now();
      const result = await buildWithEsphome({
        spec: EsphomeBuildSpec.parse({ driver: "esphome", bundle: bundle.digest, entry: bundle.entry, version }),
        tar: inflated.tar,
        configuration: Configuration.parse("porch-lamp"),
        workspace,
        environments,
        sandbox,
        onLine: (line) => lines.push(line),
      });
      expect(result, lines.join("\n")).toMatchObject({ ok: true, isWarm });
      process.stdout.write(
        `${sandbox.level} ${isWarm ? "warm" : "cold"}: ${Math.round(performance.now() - startedAt)} ms\n`,
      );
    }
  }
});
