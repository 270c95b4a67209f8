/** A real `esphome compile` inside a sandbox. Also a program, for a test that starts it in another mount namespace: `FOLDER` on its command line. */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#actor/clock.ts";
import { buildWithEsphome } from "#compile-agent/esphome-driver.ts";
import { chooseSandbox } from "#compile-agent/sandbox/choose.ts";
import type { SandboxPlace, SandboxSettings } from "#compile-agent/sandbox/sandbox.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import type { SandboxLevel } from "#protocol/sandbox.ts";
import { Configuration } from "#protocol/ids.ts";
import { EsphomeBuildSpec } from "#protocol/job.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { inflate } from "#test/support/bundle-tar.ts";
import { plainSettings } from "#test/support/escape-bench.ts";

const version = "2026.10.0";
const example = join(import.meta.dirname, "../../examples/host");
const settings: SandboxSettings = { ...plainSettings, memoryBytesMax: 4e9, processesMax: 512, diskBytesMax: 10e9 };

/** Cold and warm; says how long each took. Throws when it does not succeed. */
export async function buildTwice(
  level: SandboxLevel,
  home: string,
  { cacheFolder, python }: { readonly cacheFolder: string; readonly python?: string },
): Promise<void> {
  const agentHome = join(home, "agent");
  const buildFolder = join(agentHome, "build");
  const place: SandboxPlace = { agentHome, buildFolder, sharedHome: join(home, "cache/builds-home"), python };
  await mkdir(agentHome);
  await cp(example, join(home, "conf"), { recursive: true });
  const environments = new EsphomeEnvironments({ cacheFolder, clock: systemClock, pythonHint: python });
  await using _use = await environments.use(version);
  const ensured = await environments.ensure(version);
  if (!ensured.ok) throw new Error(JSON.stringify(ensured));
  const bundle = await makeBundle(ensured.env, join(home, "conf", "porch-lamp.yaml"));
  if (!bundle.ok) throw new Error(JSON.stringify(bundle));
  const sandbox = await chooseSandbox(level, { ...settings, buildUser: "71234:71234" }, place);
  const workspace = new Workspace(buildFolder);
  for (const isWarm of [false, true]) {
    const inflated = await inflate(bundle.bytes, home);
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
    if (!result.ok || result.isWarm !== isWarm) throw new Error([JSON.stringify(result), ...lines].join("\n"));
    process.stdout.write(
      `${sandbox.level} ${isWarm ? "warm" : "cold"}: ${Math.round(performance.now() - startedAt)} ms\n`,
    );
  }
}

const [, program, folder, python] = process.argv;
if (program === import.meta.filename && folder !== undefined) {
  await buildTwice("user", folder, { cacheFolder: join(folder, "cache"), ...(python === undefined ? {} : { python }) });
}
