/** The two ways to a device, as a job sees them: over the air, or over a port of this machine. */
import type { Clock } from "#actor/clock.ts";
import type { ArtifactManifest, Image } from "#protocol/artifact.ts";
import type { Failure } from "#protocol/failure.ts";
import {
  addressOfTarget,
  type OtaTarget,
  type SerialTarget,
  type UpdatePart,
  type UploadTarget,
} from "#protocol/job.ts";
import type { StageLimits } from "#protocol/limits.ts";
import type { SerialTool } from "#protocol/serial.ts";
import { reachDevice } from "#upload-agent/device-connection.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { flashOverTheAir } from "#upload-agent/ota.ts";
import type { SerialBench } from "#upload-agent/serial/flash-serial.ts";

export interface FlashOptions {
  /** Ends the flash as far as the way allows; a device over a port is then left with a part of an image. */
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly mayStart: () => boolean;
  readonly onEvent: (event: FlashEvent) => void;
}

/** An image that was fetched. */
export interface FetchedImage {
  readonly image: Image;
  readonly bytes: Uint8Array;
}

export interface Way {
  /** What is fetched for a flash, those that are written first. @returns why there is nothing to flash this way, otherwise */
  imagesOf(manifest: ArtifactManifest): readonly Image[] | Failure;
  /** What the way itself needs, e.g. a program that has to be installed. @returns why it is not there */
  prepare(options: Omit<FlashOptions, "mayStart" | "deadlineMs">): Promise<Failure | undefined>;
  /**
   * Whether the right device is there, found out before the flash claim: what ends without one can be cancelled and tried again.
   * Over a port it restarts the device. @returns undefined when it is
   */
  reach(options: Omit<FlashOptions, "mayStart" | "deadlineMs">): Promise<Failure | undefined>;
  flash(images: readonly FetchedImage[], options: FlashOptions): Promise<FlashResult>;
}

export interface WayOptions {
  readonly limits: StageLimits;
  readonly clock: Clock;
  /** Absent on a machine that flashes over the air only. */
  readonly serial?: SerialBench | undefined;
  readonly part?: UpdatePart | undefined;
}

export function wayTo(target: UploadTarget, options: WayOptions): Way {
  return target.kind === "ota" ? overTheAir(target, options) : overAPort(target, options);
}

function overTheAir(target: OtaTarget, { limits, part }: WayOptions): Way {
  const { flashing, connecting, negotiating } = limits;
  return {
    imagesOf: ({ images }) => {
      const role = part ?? "ota";
      const image = images.find((one) => one.role === role);
      if (image !== undefined) return [image];
      const what = part === undefined ? "image that goes over the air" : `${part} image`;
      return { kind: "image-unsuitable", detail: `the build has no ${what}` };
    },
    prepare: () => Promise.resolve(undefined),
    reach: async ({ signal }) => {
      const reach = await reachDevice(target, { withinMs: connecting.totalMs, signal });
      if (reach === undefined || signal.aborted) return undefined;
      return { kind: "device-unreachable", address: addressOfTarget(target), detail: reach.detail };
    },
    flash: ([first], { signal, deadlineMs, mayStart, onEvent }) =>
      flashOverTheAir(target, first?.bytes ?? new Uint8Array(), {
        signal,
        deadlineMs,
        mayStart,
        onEvent,
        limits: {
          connectMs: connecting.totalMs,
          handshakeMs: negotiating.totalMs,
          ...(flashing.silenceMs === undefined ? {} : { silenceMs: flashing.silenceMs }),
        },
        ...(part === undefined ? {} : { updateKind: part }),
      }),
  };
}

/** Which images a program at a port is given, those that are written first. @returns why it has none, otherwise */
export function imagesFor(tool: SerialTool, images: readonly Image[]): readonly Image[] | Failure {
  if (tool.image === undefined) {
    // A command may need the others beside the one that it writes.
    return tool.kind === "esptool" ? images.filter(({ role }) => role === "factory") : images;
  }
  const named = images.filter(({ name }) => name === tool.image);
  if (tool.kind !== "esptool" || named.some(({ role }) => role === "factory")) return named;
  const [only, ...others] = named;
  // Of a build with any command nobody knows what its files are for; a person has said it.
  if (only !== undefined && others.length === 0) return [{ ...only, role: "factory", offset: only.offset ?? 0 }];
  return { kind: "image-unsuitable", detail: `the build has ${named.length} images called ${tool.image}, not one` };
}

/** Loaded by the first flash over a port. */
const programs = () => import("#upload-agent/serial/flash-serial.ts");

function overAPort(target: SerialTarget, { limits, serial }: WayOptions): Way {
  const noPorts: Failure = { kind: "port-missing", port: target.port, detail: "this agent has no ports" };
  return {
    imagesOf: (manifest) => imagesFor(target.tool, manifest.images),
    prepare: async ({ signal, onEvent }) => {
      if (serial === undefined) return noPorts;
      const { prepareSerial } = await programs();
      return prepareSerial(target, serial, { signal, onEvent });
    },
    reach: async (options) => {
      if (serial === undefined) return noPorts;
      const { identifySerial } = await programs();
      const identified = await identifySerial(target, serial, { ...options, mayStart: () => true });
      return identified.ok ? undefined : identified.failure;
    },
    flash: async (images, { signal, deadlineMs, mayStart, onEvent }) => {
      if (serial === undefined) return { ok: false, failure: noPorts };
      const files = images.map(({ image: { role, name, offset }, bytes }) => ({ role, name, offset, bytes }));
      const limit = { ...limits.flashing, totalMs: deadlineMs };
      const { flashOverSerial } = await programs();
      return flashOverSerial(target, serial, files, { signal, mayStart, onEvent, limit });
    },
  };
}
