/** One upload job: whom it flashes, whom it leaves alone, and that each of its stages ends when what it waits for has stalled. */
import { describe, expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { digestOf } from "#actor/digest.ts";
import type { Attempt } from "#actor/lane-worker.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { retryOf } from "#protocol/failure.ts";
import { type JobResult, type OtaEncryption, type OtaTarget, withEncryption } from "#protocol/job.ts";
import { stageLimits, type Stage, type StageLimit } from "#protocol/limits.ts";
import type { ConfirmDispatch, UploadDispatch } from "#protocol/messages.ts";
import { uploadHandler, type UploadServices } from "#upload-agent/upload-job.ts";
import { type DeviceBuild, imageOf } from "#simulator/device-image.ts";
import { SimulatedApi } from "#simulator/native-api.ts";
import { type DeviceOptions, SimulatedDevice } from "#simulator/device.ts";
import { chainNumber, configurationNamed } from "#test/support/farm-builders.ts";
import { compileDispatch } from "#test/support/lane-bench.ts";
import { buildAt, expectedOf, newBuild, oldBuild, otaKey, otherKey, targetOf } from "#test/support/simulated-flash.ts";

const lightBuild = buildAt(2, "light");
const renamed = { name: "light", formerName: "lamp" };

/** Services without a store that has anything. */
const withoutImages: UploadServices = {
  artifacts: { get: async () => ({ ok: false, found: "missing" }) },
  clock: systemClock,
  openLog: () => ({ line: () => undefined, close: async () => undefined }),
  say: () => undefined,
};

const withoutClaim: Attempt = {
  signal: new AbortController().signal,
  claimFlash: async () => "drop",
  mayStart: () => false,
  release: async () => undefined,
};

/** What every job for a device has, whatever is done there. */
function jobFor(build: DeviceBuild): Omit<ConfirmDispatch, "job" | "target"> {
  const image = imageOf(build);
  return {
    v: 1,
    chain: chainNumber(1),
    attempt: 1,
    configuration: configurationNamed("lamp"),
    manifest: {
      v: 1,
      tool: { name: "esphome", version: "2026.10.0" },
      platform: "esp32",
      images: [{ role: "ota", name: "firmware.ota.bin", digest: digestOf(image), bytes: image.length }],
      esphome: expectedOf(build),
    },
  };
}

interface Job {
  readonly target: OtaTarget;
  readonly build?: DeviceBuild;
  readonly mode?: "flash" | "probe";
  readonly more?: Partial<UploadDispatch>;
  readonly services?: Partial<UploadServices>;
  readonly limits?: Partial<Record<Stage, StageLimit>>;
  readonly signal?: AbortSignal;
}

interface Done {
  readonly result: JobResult;
  readonly lines: readonly string[];
  readonly said: readonly string[];
  /** Flash claims that were asked for. */
  readonly claims: number;
}

async function does({
  target,
  build = newBuild,
  mode = "flash",
  more = {},
  services = {},
  limits = {},
  signal,
}: Job): Promise<Done> {
  const dispatch: UploadDispatch = { ...jobFor(build), job: "upload", mode, target, ...more };
  const lines: string[] = [];
  const said: string[] = [];
  let claims = 0;
  const handler = uploadHandler({
    artifacts: { get: async () => ({ ok: true, bytes: imageOf(build) }) },
    clock: systemClock,
    limits: { ...stageLimits, verifying: { totalMs: 5_000 }, ...limits },
    openLog: (_chain, job) => ({ line: (text) => lines.push(`${job}: ${text}`), close: async () => undefined }),
    say: (_chain, job, { phase }) => {
      if (said.at(-1) !== `${job}: ${phase}`) said.push(`${job}: ${phase}`);
    },
    ...services,
  });
  const result = await handler(dispatch, {
    signal: signal ?? new AbortController().signal,
    claimFlash: async () => {
      claims += 1;
      return "go";
    },
    mayStart: () => claims > 0,
    release: async () => undefined,
  });
  return { result, lines, said, claims };
}

const device = (over: Partial<DeviceOptions> = {}) => SimulatedDevice.start({ build: oldBuild, ...over });
const deadline = (stage: Stage, limit: "silence" | "total", limitMs: number) => ({
  kind: "failed",
  failure: { kind: "deadline", stage, limit, limitMs, effect: "none" },
});

test("a device with another build is flashed once and says that it runs the new one", async () => {
  await using lamp = await device();
  const { result, said, claims } = await does({ target: targetOf(lamp) });
  expect(result).toMatchObject({ kind: "flashed", level: "running", wrote: true, report: newBuild });
  expect(said).toEqual(["upload: fetching", "upload: checking", "upload: flashing", "upload: verifying"]);
  expect([claims, lamp.sessions.filter((session) => session.committed).length]).toEqual([1, 1]);
});

describe("a device that runs a newer release of ESPHome", () => {
  const newer = { ...oldBuild, esphomeVersion: "2026.11.0b1" };

  test("is not flashed with an older one, and nothing is asked of the coordinator for it", async () => {
    await using lamp = await device({ build: newer });
    const { result, claims } = await does({ target: targetOf(lamp) });
    expect(result).toMatchObject({
      failure: { kind: "downgrade-refused", wanted: "ESPHome 2026.10.0", found: "ESPHome 2026.11.0b1" },
    });
    expect([claims, lamp.sessions.length]).toEqual([0, 0]);
  });

  test("is flashed where a person asked for it", async () => {
    await using lamp = await device({ build: newer });
    const { result } = await does({ target: targetOf(lamp), more: { mayDowngrade: true } });
    expect(result).toMatchObject({ kind: "flashed", level: "running", wrote: true });
  });
});

describe("a confirmation", () => {
  const asks = async (lamp: SimulatedDevice, build: DeviceBuild, target = targetOf(lamp)) => {
    const lines: string[] = [];
    const handler = uploadHandler({
      ...withoutImages,
      limits: { ...stageLimits, verifying: { totalMs: 500 } },
      openLog: () => ({ line: (text) => lines.push(text), close: async () => undefined }),
    });
    return { result: await handler({ ...jobFor(build), job: "confirm", target }, withoutClaim), lines };
  };

  test("says that the device still runs the build, in its own words", async () => {
    await using lamp = await device({ build: newBuild });
    const { result, lines } = await asks(lamp, newBuild);
    expect(result).toMatchObject({ kind: "confirmed", report: newBuild });
    expect(lines.join()).toContain("still runs");
    expect(lamp.sessions).toEqual([]);
  });

  test("says that the device has gone back to another build", async () => {
    await using lamp = await device();
    expect((await asks(lamp, newBuild)).result).toMatchObject({ failure: { kind: "rolled-back" } });
  });

  test("of a device that is silent, or of another one at its address, leaves open what it runs", async () => {
    await using silent = await device({ api: "silent" });
    await using other = await device({ build: newBuild });
    const notVerified = { failure: { kind: "not-verified", effect: "committed" } };
    expect((await asks(silent, newBuild)).result).toMatchObject(notVerified);
    const target = targetOf(other, { mac: "02:00:00:00:AA:99" });
    expect((await asks(other, newBuild, target)).result).toMatchObject(notVerified);
  });
});

test("a build that came down the upload lane is a bug that is reported", async () => {
  const result = await uploadHandler(withoutImages)(compileDispatch(1), withoutClaim);
  expect(result).toMatchObject({ failure: { kind: "internal", detail: "a compile job came down the upload lane" } });
});

describe("a device with a key", () => {
  const keyed = (lamp: SimulatedDevice, encryption: OtaEncryption, key = otaKey) =>
    withEncryption(targetOf(lamp, { api: { port: lamp.apiPort, encryptionKey: key } }), encryption);

  test("is asked, flashed and asked again through its cipher, and no log holds the key", async () => {
    await using lamp = await device({ encryption: { key: otaKey, isRequired: true } });
    const done = await does({ target: keyed(lamp, "require") });
    expect(done.result).toMatchObject({ kind: "flashed", level: "running", wrote: true, report: newBuild });
    expect(done.lines).toContainEqual(expect.stringMatching(/protocol 2, .*, encrypted$/));
    expect(JSON.stringify(done)).not.toContain(otaKey);
    expect(lamp.sessions).toContainEqual(expect.objectContaining({ encrypted: true, committed: true }));
  });

  test("is flashed in plaintext where it does not offer a cipher and that will do, and the log says so", async () => {
    await using lamp = await device();
    const target = { ...withEncryption(targetOf(lamp), "opportunistic"), encryptionKey: otaKey };
    const { result, lines } = await does({ target });
    expect(result).toMatchObject({ kind: "flashed", level: "running" });
    const said = "not encrypted, although that was wanted: the device does not offer encryption";
    expect(lines).toContainEqual(expect.stringContaining(said));
  });

  test("is not flashed when it refuses the key and says that it is another one", async () => {
    await using fan = await device({ build: buildAt(1, "fan"), encryption: { key: otaKey } });
    const { result, claims } = await does({ target: { ...keyed(fan, "never", otherKey), name: "lamp" } });
    expect(result).toMatchObject({ failure: { kind: "wrong-device", found: expect.stringContaining("fan") } });
    expect([claims, fan.build]).toEqual([0, buildAt(1, "fan")]);
  });

  test("is flashed when it refuses the key of the build that it is to get", async () => {
    await using lamp = await device({ encryption: { key: otaKey } });
    const limits = { verifying: { totalMs: 300 } };
    const { result } = await does({ target: keyed(lamp, "never", otherKey), limits });
    expect(result).toMatchObject({ kind: "flashed", level: "committed", wrote: true });
    expect(lamp.build).toEqual(newBuild);
  });
});

describe("a rename", () => {
  const job = (lamp: SimulatedDevice, over: Partial<OtaTarget> = {}) => ({
    target: targetOf(lamp, { ...renamed, ...over }),
    build: lightBuild,
  });

  test("flashes the device that still has its former name", async () => {
    await using lamp = await device();
    const { result } = await does(job(lamp));
    expect(result).toMatchObject({ kind: "flashed", wrote: true, report: { name: "light" } });
    expect(lamp.build).toEqual(lightBuild);
  });

  test("leaves the device alone that runs this build already", async () => {
    await using lamp = await device({ build: lightBuild });
    expect(await does(job(lamp))).toMatchObject({ result: { kind: "flashed", wrote: false }, claims: 0 });
    expect(lamp.sessions).toEqual([]);
  });

  test("flashes the device that has its new name and another build", async () => {
    await using lamp = await device({ build: buildAt(1, "light") });
    expect(await does(job(lamp))).toMatchObject({ result: { kind: "flashed", wrote: true } });
  });

  test("never flashes a device of any other name", async () => {
    await using fan = await device({ build: buildAt(1, "fan") });
    const { result, claims } = await does(job(fan));
    expect(result).toMatchObject({ failure: { kind: "wrong-device", wanted: "lamp or light" } });
    expect([claims, fan.sessions.length]).toEqual([0, 0]);
  });

  test("asks the device at the address of its new name, which it has from then on", async () => {
    await using lamp = await device();
    await using moved = new SimulatedApi(() => (lamp.build.name === "light" ? lamp.report : undefined));
    await moved.listen("127.0.0.2", lamp.apiPort);
    // Nobody asks there any more once it has its new name.
    lamp.onCommit = () => (lamp.api.mode = "closing");
    const { result } = await does(job(lamp, { hostAfter: "127.0.0.2" }));
    expect(result).toMatchObject({ kind: "flashed", wrote: true, report: { name: "light" } });
  });

  test("asks it where it was when its address does not follow its name", async () => {
    await using lamp = await device();
    const { result } = await does(job(lamp, { hostAfter: "127.0.0.2" }));
    expect(result).toMatchObject({ kind: "flashed", wrote: true, report: { name: "light" } });
  });

  test("is no success while the device has its former name", async () => {
    await using lamp = await device();
    lamp.onCommit = () => (lamp.build = oldBuild);
    const { result } = await does({
      ...job(lamp, { hostAfter: "127.0.0.2" }),
      limits: { verifying: { totalMs: 300 } },
    });
    expect(result).toMatchObject({ failure: { kind: "not-running", found: expect.stringContaining("lamp") } });
  });

  test("whose end nobody heard is found out at either address, and nothing is sent", async () => {
    await using lamp = await device({ build: lightBuild });
    const here = await does({ ...job(lamp, { hostAfter: "127.0.0.2" }), mode: "probe" });
    expect(here.result).toMatchObject({ kind: "flashed", wrote: true, report: { name: "light" } });
    await using moved = new SimulatedApi(() => lamp.report);
    await moved.listen("127.0.0.2", lamp.apiPort);
    lamp.api.mode = "closing";
    const there = await does({ ...job(lamp, { hostAfter: "127.0.0.2" }), mode: "probe" });
    expect(there.result).toMatchObject({ kind: "flashed", wrote: true, report: { name: "light" } });
    const again = await does(job(lamp, { hostAfter: "127.0.0.2" }));
    expect(again.result).toMatchObject({ kind: "flashed", wrote: false });
    expect(lamp.sessions).toEqual([]);
  });
});

describe("a stage that stalls", () => {
  test("while the image is fetched ends before the device is asked, and is tried again later", async () => {
    await using lamp = await device();
    const get = () => new Promise<never>(() => undefined);
    const limits = { fetching: { silenceMs: 300, totalMs: 60_000 } };
    const { result, lines, claims } = await does({ target: targetOf(lamp), services: { artifacts: { get } }, limits });
    expect(result).toEqual(deadline("fetching", "silence", 300));
    if (result.kind === "failed") expect(retryOf(result.failure)).toBe("later");
    expect(lines.at(-1)).toBe("upload: no sign of life for 0.3 s (stage: fetching); the device was not touched");
    expect([claims, lamp.api.asked, lamp.sessions.length]).toEqual([0, 0, 0]);
  });

  test("because the store is away ends by its total time", async () => {
    await using lamp = await device();
    const get = async () => {
      throw new UnavailableError("no-answer", "the store has no leader");
    };
    const limits = { fetching: { totalMs: 400 } };
    const { result } = await does({ target: targetOf(lamp), services: { artifacts: { get } }, limits });
    expect(result).toEqual(deadline("fetching", "total", 400));
  });

  test("while a silent device is asked ends without a claim, and is tried again later", async () => {
    await using lamp = await device({ api: "silent" });
    const { result, claims } = await does({ target: targetOf(lamp), limits: { checking: { totalMs: 300 } } });
    expect(result).toEqual(deadline("checking", "total", 300));
    if (result.kind === "failed") expect(retryOf(result.failure)).toBe("later");
    expect([claims, lamp.sessions.length]).toEqual([0, 0]);
  });

  test("before the first byte is tried again only within the time of the whole flash", async () => {
    await using lamp = await device({ fault: { at: "greeting", act: "silence" } });
    const limits = { negotiating: { totalMs: 300 }, flashing: { silenceMs: 300, totalMs: 2_000 } };
    const { result, claims } = await does({ target: targetOf(lamp), limits });
    expect(result).toMatchObject({ failure: { kind: "upload-interrupted", phase: "negotiating", effect: "none" } });
    expect([claims, lamp.sessions.length]).toEqual([1, 1]);
  });

  test("inside the image is settled by the device's own word", async () => {
    await using lamp = await device({ fault: { at: "block", act: "silence", afterBytes: 20_000 } });
    const limits = { flashing: { silenceMs: 500, totalMs: 20_000 }, verifying: { totalMs: 500 } };
    const { result, lines } = await does({ target: targetOf(lamp), limits });
    expect(result).toEqual(deadline("flashing", "silence", 500));
    expect(lines.join("\n")).toContain("(stage: flashing); whether the device took the image is not known: asking");
    expect(lamp.build).toEqual(oldBuild);
  });

  test("after the last byte leaves open what the device runs, when it never answers again", async () => {
    await using lamp = await device();
    lamp.onCommit = () => (lamp.api.mode = "silent");
    const { result } = await does({ target: targetOf(lamp), limits: { verifying: { totalMs: 300 } } });
    expect(result).toMatchObject({ failure: { kind: "not-verified", effect: "committed" } });
  });

  test("is left at once when the job is told to stop", async () => {
    await using lamp = await device({ api: "silent" });
    const stop = new AbortController();
    const services = {
      say: (_chain: unknown, _job: unknown, { phase }: { phase: string }) => {
        if (phase === "checking") stop.abort();
      },
    };
    const { result, claims } = await does({ target: targetOf(lamp), services, signal: stop.signal });
    expect([result, claims]).toEqual([{ kind: "stopped" }, 0]);
  });
});
