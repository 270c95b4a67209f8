/** Chains as the history holds them: an install that went well, of one of a thousand devices. Pure. */
import { ArtifactManifest } from "#protocol/artifact.ts";
import type { Chain } from "#protocol/chain.ts";
import { AgentId, BootId, chainIdFrom, Configuration, Digest } from "#protocol/ids.ts";

/** Configurations that share the history. */
export const configurations = 1_000;
/** Between two ended chains: 100,000 of them are 69 days. */
const apartMs = 60_000;

export function configurationNumber(number: number): Configuration {
  return Configuration.parse(`device-${number % configurations}`);
}

/** A digest that says which one it is. */
export function digestNumber(number: number): Digest {
  return Digest.parse(number.toString(16).padStart(64, "0"));
}

export function manifestNumber(number: number): ArtifactManifest {
  const name = configurationNumber(number);
  return ArtifactManifest.parse({
    v: 1,
    tool: { name: "esphome", version: "2026.10.0" },
    platform: "esp32",
    chip: "esp32c3",
    images: [
      { role: "ota", name: "firmware.ota.bin", digest: digestNumber(number), bytes: 1_000_000 },
      { role: "factory", name: "firmware.factory.bin", digest: digestNumber(number + 1), bytes: 1_060_000, offset: 0 },
    ],
    esphome: {
      name,
      configHash: number.toString(16).padStart(8, "0"),
      buildTime: 1_790_000_000 + number,
      buildTimeStr: "2026-10-01 12:00:00 +0000",
      esphomeVersion: "2026.10.0",
    },
  });
}

/** The chain that ended `age` chains before the newest one, which ends at `at` (ms since 1970). */
export function endedChain(age: number, at: number): Chain {
  const endedAt = at - age * apartMs;
  const createdAt = endedAt - 60_000;
  const configuration = configurationNumber(age);
  const common = { state: "succeeded" as const, attempt: 1, avoid: [], earlier: [] };
  const assigned = (agent: string) => ({ agent: AgentId.parse(agent), boot: BootId.parse("0123456789abcdef") });
  return {
    v: 2,
    id: chainIdFrom(createdAt, new Uint8Array([age, age >> 5, age >> 10, age >> 15, 0, 0])),
    kind: "install",
    priority: "bulk",
    configuration,
    createdAt,
    compile: {
      lane: "compile",
      name: "compile",
      spec: {
        driver: "esphome",
        version: "2026.10.0",
        bundle: digestNumber(age),
        entry: `${configuration}.yaml`,
        platform: "esp32",
      },
      ...common,
      assigned: assigned(`builder-${age % 500}`),
      queuedAt: createdAt,
      dispatchedAt: createdAt + 10,
      startedAt: createdAt + 20,
      endedAt: createdAt + 40_000,
      outcome: { kind: "built", manifest: manifestNumber(age), buildMs: 39_980, isWarm: age % 2 === 0 },
    },
    upload: {
      lane: "upload",
      name: "upload",
      spec: {
        target: { kind: "ota", host: `${configuration}.local`, port: 3232, encrypted: false, name: configuration },
      },
      mode: "flash",
      ...common,
      assigned: assigned(`flasher-${age % 500}`),
      queuedAt: createdAt + 40_000,
      dispatchedAt: createdAt + 40_010,
      startedAt: createdAt + 40_020,
      endedAt,
      flashClaim: { attempt: 1, at: createdAt + 40_500 },
      outcome: {
        kind: "flashed",
        level: "running",
        wrote: true,
        flashMs: 15_000,
        report: {
          name: configuration,
          mac: "AA:BB:CC:DD:EE:FF",
          compilationTime: "2026-10-01 12:00:00 +0000",
          esphomeVersion: "2026.10.0",
        },
      },
    },
  };
}
