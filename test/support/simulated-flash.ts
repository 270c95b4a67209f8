/** One flash of a simulated device with limits short enough for a test, and everything it told while it went. */
import type { OtaTarget } from "#protocol/job.ts";
import { type DeviceBuild, imageOf } from "#simulator/device-image.ts";
import type { SimulatedDevice } from "#simulator/device.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { flashOverTheAir, type OtaOptions } from "#upload-agent/ota.ts";

export const password = "correct horse";
/** 32 bytes in base64, as ESPHome wants a key. */
export const otaKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
export const otherKey = Buffer.alloc(32, 7).toString("base64");

export const buildAt = (minute: number, name = "lamp"): DeviceBuild => ({
  name,
  compilationTime: `2026-10-01 12:${String(minute).padStart(2, "0")}:00 +0000`,
  esphomeVersion: "2026.10.0",
});

export const oldBuild = buildAt(1);
export const newBuild = buildAt(2);
export const newImage = imageOf(newBuild);

/** The build that `probe` expects, as ESPHome says it of a build. */
export const expectedOf = (build: DeviceBuild) => ({
  name: build.name,
  configHash: "0x00000000",
  buildTime: 0,
  buildTimeStr: build.compilationTime,
  esphomeVersion: build.esphomeVersion,
});

export function targetOf(device: SimulatedDevice, over: Partial<OtaTarget> = {}): OtaTarget {
  return {
    kind: "ota",
    host: "127.0.0.1",
    port: device.otaPort,
    encrypted: false,
    name: device.options.build.name,
    password,
    api: { port: device.apiPort },
    ...over,
  };
}

/** Long enough for a busy machine where an answer comes, short where none does. */
export const shortLimits = { connectMs: 2_000, handshakeMs: 2_000, silenceMs: 2_000, lastWordMs: 200 };

export async function flash(
  target: OtaTarget,
  options: Partial<OtaOptions> & { readonly image?: Uint8Array } = {},
): Promise<{ readonly result: FlashResult; readonly events: readonly FlashEvent[] }> {
  const events: FlashEvent[] = [];
  const { image = newImage, onEvent, ...rest } = options;
  const result = await flashOverTheAir(target, image, {
    signal: new AbortController().signal,
    deadlineMs: 20_000,
    mayStart: () => true,
    limits: shortLimits,
    ...rest,
    onEvent: (event) => {
      events.push(event);
      onEvent?.(event);
    },
  });
  return { result, events };
}
