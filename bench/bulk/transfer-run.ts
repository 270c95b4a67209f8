/** Twenty devices with commanded builds and flashes, and everything that has to be carried between them. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "#actor/clock.ts";
import { InvariantError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import { objectStores } from "#protocol/names.ts";
import { inOrder } from "#bus/in-order.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import type { Stage } from "#bench/bulk/agent-plan.ts";
import { BulkFarm, compileAgents, compileSlots, uploadSlots } from "#bench/bulk/bulk-farm.ts";
import { chainRequest, esphomeVersion } from "#bench/bulk/chain-request.ts";
import { idealMs } from "#bench/bulk/ideal.ts";

export const devices = 20;
export const buildMs = 1_000;
export const uploadMs = 3_000;
/** 24 MiB: never less than the 24 MB of the peer. */
export const artifactBytes = 24 * 1024 * 1024;
export const idealMakespanMs = idealMs({
  chains: devices,
  buildMs,
  uploadMs,
  compileSlots: compileAgents * compileSlots,
  uploadSlots,
});

/** Twice the peer's; more means that something hangs. */
const runMsMax = 60_000;

/** ESPHome takes 0.3 s of a processor for one. */
const bundlesAtATime = 4;

export interface DeviceBundle {
  readonly digest: Digest;
  readonly entry: string;
  readonly bytes: Uint8Array;
}

/**
 * `esphome bundle` of one configuration a device: `examples/host/kitchen-light.yaml` under other names.
 * @throws InvariantError when ESPHome refuses it, or is not there and cannot be made
 */
export async function makeBundles(
  cacheFolder: string,
  folder: string,
  signal: AbortSignal,
): Promise<readonly DeviceBundle[]> {
  const environment = await new EsphomeEnvironments({ cacheFolder, clock: systemClock }).ensure(esphomeVersion);
  if (!environment.ok) throw new InvariantError("no-esphome", JSON.stringify(environment));
  const example = await readFile(fileURLToPath(new URL("../../examples/host/kitchen-light.yaml", import.meta.url)));
  await mkdir(folder, { recursive: true });
  const bundles: DeviceBundle[] = [];
  const numbers = Array.from({ length: devices }, (_, index) => index + 1);
  const makeOne = async (number: number) => {
    const file = join(folder, `device-${number}.yaml`);
    await writeFile(file, example.toString().replaceAll("kitchen-light", `device-${number}`));
    const bundle = await makeBundle(environment.env, file, { signal });
    if (!bundle.ok) throw new InvariantError("no-bundle", JSON.stringify(bundle));
    return bundle;
  };
  for await (const bundle of inOrder(numbers, () => bundlesAtATime, makeOne)) bundles.push(bundle);
  return bundles;
}

export interface TransferRun {
  readonly answeredMs: number;
  readonly makespanMs: number;
  readonly stageMs: Readonly<Record<Stage, readonly number[]>>;
}

/** From the request to the last flash that the coordinator has noted. @throws UnavailableError when it hangs or the signal fires */
export async function transferRun(
  binary: string,
  folder: string,
  bundles: readonly DeviceBundle[],
  signal: AbortSignal,
): Promise<TransferRun> {
  await using farm = await BulkFarm.open({
    binary,
    folder,
    compile: { kind: "build", buildMs, artifactBytes },
    upload: { kind: "flash", uploadMs },
  });
  const store = new ObjectStore(farm.connection, objectStores.bundles);
  for (const { digest, bytes } of bundles) await store.put(digest, bytes);
  const requests = bundles.map((bundle, index) => chainRequest(index + 1, bundle));
  const startedAt = performance.now();
  await farm.submit(requests);
  const answeredMs = performance.now() - startedAt;
  await farm.untilFlashed(requests.length, AbortSignal.any([signal, AbortSignal.timeout(runMsMax)]));
  return {
    answeredMs,
    makespanMs: performance.now() - startedAt,
    stageMs: farm.stageMs,
  };
}
