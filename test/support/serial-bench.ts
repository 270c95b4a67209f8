/** An upload agent's side of a port: real esptool, a lock folder of its own, and what a flash told. */
import { homedir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#actor/clock.ts";
import { type SerialTarget, SerialTarget as SerialTargetSchema } from "#protocol/job.ts";
import { PortId, type SerialTool } from "#protocol/serial.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { type Esptool, findEsptool } from "#upload-agent/serial/esptool-environment.ts";
import {
  flashOverSerial,
  type SerialBench,
  type SerialFlashOptions,
  type SerialImage,
} from "#upload-agent/serial/flash-serial.ts";
import type { CommandFlashers } from "#upload-agent/serial/flasher-file.ts";
import { type Owned, PortOwners } from "#upload-agent/serial/port-owner.ts";
import { SerialPorts } from "#upload-agent/serial/ports.ts";

/** Shared by all runs: the environment takes a quarter of a minute. */
const cacheFolder = join(homedir(), ".cache", "flashyard-test");

/** Of PyPI, in an environment of ours, whatever else this machine has. */
export async function realEsptool(): Promise<Esptool> {
  const found = await findEsptool({ cacheFolder, clock: systemClock, path: "/nonexistent" });
  if (!found.ok) throw new Error(`real esptool is missing: ${JSON.stringify(found)}`);
  return found.esptool;
}

export interface BenchOptions {
  readonly folder: string;
  /** The only ones that the machine has. */
  readonly ports: Readonly<Record<string, string>>;
  readonly esptool?: Esptool;
  readonly avrdude?: string;
  readonly flashers?: CommandFlashers;
}

export function serialBench({ folder, ports, esptool, avrdude, flashers }: BenchOptions): SerialBench {
  const named = new Map(Object.entries(ports).map(([id, path]) => [PortId.parse(id), path]));
  return {
    ports: new SerialPorts({ clock: systemClock, named, list: async () => [] }),
    owners: new PortOwners({ folder, clock: systemClock }),
    esptool: async () =>
      esptool === undefined
        ? {
            ok: false,
            aborted: false,
            failure: { kind: "toolchain-missing", missing: "esptool", detail: "a test without it" },
          }
        : { ok: true, esptool },
    avrdude: avrdude ?? "avrdude",
    flashers: flashers ?? new Map(),
    clock: systemClock,
    workFolder: folder,
  };
}

/** Gives a port back, for whoever has got it. */
export async function letGo(owned: Owned | undefined): Promise<void> {
  if (owned?.kind === "owned") await owned.lock[Symbol.asyncDispose]();
}

export function serialTarget(port: string, tool: SerialTool, rest: { readonly mac?: string } = {}): SerialTarget {
  return SerialTargetSchema.parse({ kind: "serial", port, tool, name: "bench", ...rest });
}

export interface ToldFlash {
  readonly result: FlashResult;
  readonly events: readonly FlashEvent[];
}

/** A flash with what it told. */
export async function flashAndListen(
  bench: SerialBench,
  target: SerialTarget,
  images: readonly SerialImage[],
  options: Partial<SerialFlashOptions> = {},
): Promise<ToldFlash> {
  const events: FlashEvent[] = [];
  const result = await flashOverSerial(target, bench, images, {
    signal: new AbortController().signal,
    mayStart: () => true,
    ...options,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  return { result, events };
}
