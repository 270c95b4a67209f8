/** A workload in the farm's own words. Times are divided by a scale, so that a run of an hour takes seconds. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Announcement, WarmTree } from "#protocol/agent.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { type AgentId, BootId, chainIdFrom, type Configuration, Digest } from "#protocol/ids.ts";
import { type Lane, mediumName } from "#protocol/job.ts";
import type { DurationRecord } from "#protocol/records.ts";
import { farmVersion } from "#protocol/version.ts";
import { compileSlots, type Device, uploadSlots, type Workload } from "#bench/makespan/workload.ts";
import { Random } from "#bench/makespan/random.ts";

const version = "2026.10.0";

export function requestsOf({ devices }: Workload, at: number): readonly ChainRequest[] {
  return devices.map((device, index) => requestOf(device, index, at));
}

function requestOf({ configuration, medium, on }: Device, index: number, at: number): ChainRequest {
  const name = configuration.replaceAll(" ", "-");
  return {
    // Their random part counts, so that they sort in their order.
    id: chainIdFrom(at, new Uint8Array([0, 0, 0, 0, Math.floor(index / 32), index % 32])),
    kind: "install",
    configuration,
    build: { driver: "esphome", version, platform: "esp32", bundle: digestOf(index + 1), entry: `${name}.yaml` },
    upload: {
      target: { kind: "ota", host: `${name}.local`, port: 3232, encrypted: false, name, medium },
      ...(on === undefined ? {} : { on }),
    },
  };
}

export function manifestOf(configuration: Configuration): ArtifactManifest {
  return {
    v: 1,
    tool: { name: "esphome", version },
    platform: "esp32",
    images: [{ role: "ota", name: "firmware.ota.bin", digest: digestOf(0), bytes: 500_000 }],
    esphome: {
      name: configuration.replaceAll(" ", "-"),
      configHash: "1a2b3c4d",
      buildTime: 1,
      buildTimeStr: "2026-01-01 00:00:00 +0000",
      esphomeVersion: version,
    },
  };
}

function digestOf(number: number): Digest {
  return Digest.parse(number.toString(16).padStart(64, "0"));
}

/**
 * What a farm has learned that has done all of it before: the true times of each device, give or take a fifth. Without caches the
 * trees are gone, as after an update of ESPHome, and what is known stays.
 */
export function durationsOf({ seed, devices }: Workload, scale: number): ReadonlyMap<Configuration, DurationRecord> {
  const random = new Random(seed + 1_000_003);
  const measured = (ms: number) => ({ ms: (ms / scale) * random.between(0.8, 1.2), count: 5 });
  return new Map(
    devices.map(({ configuration, coldMs, warmMs, flashMs, medium }) => [
      configuration,
      {
        v: 1,
        configuration,
        at: 0,
        platform: "esp32",
        cold: measured(coldMs),
        warm: measured(warmMs),
        uploads: { [mediumName(medium)]: measured(flashMs) },
      },
    ]),
  );
}

type Identity = Omit<Announcement, "v" | "idleSince" | "holding">;

export function identityOf(agent: AgentId, lane: Lane, warm: readonly WarmTree[]): Identity {
  return {
    agent,
    boot: BootId.parse("boot0001"),
    lane,
    slots: lane === "compile" ? compileSlots : uploadSlots,
    ...(lane === "compile" ? { compile: capabilitiesWith(warm) } : {}),
    version: farmVersion,
    host: agent,
    pid: 1,
  };
}

export function capabilitiesWith(warm: readonly WarmTree[]): NonNullable<Announcement["compile"]> {
  return {
    esphomeVersions: [version],
    makesEnvironments: false,
    pythons: [],
    cpus: 1,
    memoryBytes: 1,
    warm: [...warm],
  };
}

export function treeOf(configuration: Configuration): WarmTree {
  return { version, configuration };
}

export function treesAt({ devices }: Workload, agent: AgentId): readonly WarmTree[] {
  return devices.filter(({ warmAt }) => warmAt.includes(agent)).map(({ configuration }) => treeOf(configuration));
}
