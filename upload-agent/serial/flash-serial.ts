/**
 * A flash over a port of this machine, whatever program does it.
 *
 * 1. The port belongs to this flash from before the first question until the last process is dead (`upload-agent/serial/port-owner.ts`).
 * 2. Who is at the port is asked before anything is written, where the tool can ask; another one is never written to.
 * 3. Images lie in a folder of this flash, which is gone afterwards.
 * 4. What goes wrong is a value with its effect on the device, never an exception.
 */
import { access, constants, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#actor/clock.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import type { ImageRole } from "#protocol/artifact.ts";
import { messageOf } from "#protocol/errors.ts";
import type { Failure } from "#protocol/failure.ts";
import type { SerialTarget } from "#protocol/job.ts";
import { type StageLimit, stageLimits } from "#protocol/limits.ts";
import type { SerialTool } from "#protocol/serial.ts";
import { fileFailure, type Attempt } from "#toolchain/attempt.ts";
import type { FlashEvent, FlashResult } from "#upload-agent/flasher.ts";
import { AvrdudeFlasher } from "#upload-agent/serial/avrdude.ts";
import { CommandFlasher } from "#upload-agent/serial/command-flasher.ts";
import { EsptoolFlasher, type Identified } from "#upload-agent/serial/esptool.ts";
import type { Esptool } from "#upload-agent/serial/esptool-environment.ts";
import type { CommandFlashers } from "#upload-agent/serial/flasher-file.ts";
import { holderOf, type PortOwners } from "#upload-agent/serial/port-owner.ts";
import type { SerialPorts } from "#upload-agent/serial/ports.ts";
import { notBegun, type ToolImage, type ToolOptions, type ToolPort } from "#upload-agent/serial/serial-tool.ts";

/** What an agent has for its ports; made once for a process. */
export interface SerialBench {
  readonly ports: Pick<SerialPorts, "find">;
  readonly owners: PortOwners;
  /** Finds or makes it; called by whoever needs it first. */
  esptool(signal: AbortSignal, onLine: (line: string) => void): Promise<Attempt<{ readonly esptool: Esptool }>>;
  /** FLASHYARD_AVRDUDE, or `avrdude` */
  readonly avrdude: string;
  readonly flashers: CommandFlashers;
  readonly clock: Clock;
  /** An existing folder for images. */
  readonly workFolder: string;
  readonly ledger?: GroupLedger;
}

/** An image of the manifest with its content, whose digest was compared before. */
export interface SerialImage {
  readonly role: ImageRole;
  readonly name: string;
  readonly offset?: number | undefined;
  readonly bytes: Uint8Array;
}

export interface SerialFlashOptions {
  /** Before the write: ends without effect. During it: the tool is ended, and the device holds a partial image. */
  readonly signal: AbortSignal;
  /** Whether this flash still has the right to happen; asked right before a program that writes is started. */
  mayStart(): boolean;
  /** Told synchronously; must not throw. */
  onEvent(event: FlashEvent): void;
  /**
   * The total is that of everything: the wait for the port, the question who is there, both rates. Default: `stageLimits.flashing`,
   * so that three installs to one port run one after another.
   */
  readonly limit?: StageLimit;
}

/** A chip that has left the bus is back after three seconds. */
const reopenMax = 5;
const reopenMs = 1_000;

/**
 * Gets the program that a target needs, which may take minutes the first time: to be done before anything is claimed for the flash.
 * Failures: `toolchain-missing`, `disk-full`, `deadline`, and a `flasher-failed` without effect when it is called off.
 * @returns undefined when the program is there, or is only looked for when it is started
 */
export async function prepareSerial(
  target: SerialTarget,
  bench: SerialBench,
  options: Pick<SerialFlashOptions, "signal" | "onEvent">,
): Promise<Failure | undefined> {
  if (target.tool.kind !== "esptool") return undefined;
  const found = await bench.esptool(options.signal, lineOf(options));
  return found.ok ? undefined : stopFailure(target, found);
}

/**
 * Who is at the target's port; the question resets the device, unless its tool is a command, which cannot ask. It waits for whoever
 * works there. Failures as of `flashOverSerial`.
 */
export async function identifySerial(
  target: SerialTarget,
  bench: SerialBench,
  options: SerialFlashOptions,
): Promise<Identified> {
  return atPort<Identified>(target, bench, options, async (port, toolOptions) => {
    switch (target.tool.kind) {
      case "esptool": {
        const found = await bench.esptool(options.signal, lineOf(options));
        if (!found.ok) return { ok: false, failure: stopFailure(target, found) };
        const flasher = new EsptoolFlasher(found.esptool, port, target.tool.chip);
        return withMac(target, await flasher.identify(toolOptions));
      }
      case "avrdude":
        return new AvrdudeFlasher(bench.avrdude, port, target.tool).identify(toolOptions);
      case "command":
        // Nothing is known of what it talks to.
        return { ok: true, identity: {} };
    }
  });
}

/**
 * Flashes the target and waits until its tool has verified what it wrote.
 * Failures: `image-unsuitable`, `toolchain-missing`, `port-missing`, `port-busy`, `chip-mismatch`, `wrong-device` (another MAC
 * address), `device-unreachable`, `deadline`, `flasher-failed`, `disk-full`. A cancel before the write is a `flasher-failed` with the
 * effect `none`, after it with `partial`.
 */
export async function flashOverSerial(
  target: SerialTarget,
  bench: SerialBench,
  images: readonly SerialImage[],
  options: SerialFlashOptions,
): Promise<FlashResult> {
  const chosen = chooseImages(target.tool, images);
  if (!chosen.ok) return { ok: false, failure: chosen.failure };
  return atPort<FlashResult>(target, bench, options, async (port, toolOptions) => {
    const folder = await mkdtemp(join(bench.workFolder, "flash-"));
    try {
      const written = await Promise.all(images.map((image, index) => writeImage(folder, image, index)));
      const files = chosen.images.flatMap((image) => written[images.indexOf(image)] ?? []);
      return await flashAt(port, target, bench, { folder, files }, toolOptions);
    } finally {
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    }
  });
}

interface Files {
  readonly folder: string;
  /** Those that are written to the device. */
  readonly files: readonly ToolImage[];
}

async function flashAt(
  port: ToolPort,
  target: SerialTarget,
  bench: SerialBench,
  { folder, files }: Files,
  options: ToolOptions,
): Promise<FlashResult> {
  const { tool } = target;
  switch (tool.kind) {
    case "esptool": {
      const found = await bench.esptool(options.signal, lineOf(options));
      if (!found.ok) return { ok: false, failure: stopFailure(target, found) };
      const flasher = new EsptoolFlasher(found.esptool, port, tool.chip);
      const refusal = flasher.refuseImages(files);
      if (refusal !== undefined) return { ok: false, failure: refusal };
      // Invariant 2.
      const identified = withMac(target, await flasher.identify(options));
      if (!identified.ok) return identified;
      const flash = (at: ToolPort) => new EsptoolFlasher(found.esptool, at, tool.chip).flash(files, tool.baud, options);
      return whenBack(port, target, bench, options, flash);
    }
    case "avrdude":
    case "command": {
      const [image] = files;
      if (image === undefined) return { ok: false, failure: { kind: "image-unsuitable", detail: "there is no image" } };
      if (tool.kind === "avrdude") return new AvrdudeFlasher(bench.avrdude, port, tool).flash(image, options);
      const spec = bench.flashers.get(tool.flasher);
      if (spec === undefined) return { ok: false, failure: unknownFlasher(tool.flasher, bench) };
      return new CommandFlasher(tool.flasher, spec, port).flash(image, folder, options);
    }
  }
}

/** A chip with USB of its own leaves the bus when it is asked who it is, and may come back under another path. */
async function whenBack(
  port: ToolPort,
  target: SerialTarget,
  bench: SerialBench,
  options: ToolOptions,
  flash: (port: ToolPort) => Promise<FlashResult>,
): Promise<FlashResult> {
  let at = port;
  for (let left = reopenMax; ; left--) {
    const result = await flash(at);
    if (result.ok || result.failure.kind !== "port-busy" || left === 0) return result;
    if (!(await bench.clock.pause(reopenMs, options.signal))) return { ok: false, failure: cancelled(target) };
    const found = await bench.ports.find(target.port);
    at = found === undefined ? at : { id: port.id, path: found.path };
  }
}

/** Invariants 1 and 4. */
async function atPort<T extends { readonly ok: boolean }>(
  target: SerialTarget,
  bench: SerialBench,
  options: SerialFlashOptions,
  work: (port: ToolPort, options: ToolOptions) => Promise<T>,
): Promise<T | { readonly ok: false; readonly failure: Failure }> {
  const failed = (failure: Failure) => ({ ok: false, failure }) as const;
  const { signal } = options;
  const toolOptions = toolOptionsOf(bench, options);
  const waitMs = toolOptions.limit().totalMs;
  try {
    const port = await portOf(target, bench);
    if ("failure" in port) return failed(port.failure);
    const owned = await bench.owners.own(port.path, {
      signal,
      waitMs,
      onWait: (pid) => {
        options.onEvent({ kind: "phase", phase: "queueing" });
        options.onEvent({ kind: "line", text: `${target.port} is used by process ${pid}: waiting for it` });
      },
    });
    if (owned.kind === "stopped") return failed(cancelled(target));
    if (owned.kind === "busy") {
      const who = owned.holderPid === undefined ? "another flash" : `process ${owned.holderPid}`;
      return failed({
        kind: "port-busy",
        port: target.port,
        detail: `${who} has used it for ${Math.round(waitMs / 1000)} s`,
      });
    }
    await using _lock = owned.lock;
    const holder = await holderOf(port.path);
    if (holder !== undefined)
      return failed({ kind: "port-busy", port: target.port, detail: `${holder} has locked it` });
    return await work(port, toolOptions);
  } catch (error) {
    return failed(fileFailure(error, bench.workFolder));
  }
}

async function portOf(target: SerialTarget, bench: SerialBench): Promise<ToolPort | { readonly failure: Failure }> {
  const { port: id, tool } = target;
  if (tool.kind === "command") {
    const spec = bench.flashers.get(tool.flasher);
    if (spec === undefined) return { failure: unknownFlasher(tool.flasher, bench) };
    if (!CommandFlasher.usesPort(spec)) return { id, path: id };
  }
  const found = await bench.ports.find(id);
  if (found === undefined)
    return { failure: { kind: "port-missing", port: id, detail: "nothing of that name is plugged in" } };
  try {
    await access(found.path, constants.R_OK | constants.W_OK);
  } catch (error) {
    const remedy = "the agent's user must be in the group dialout (Debian) or uucp (Arch): docs/serial.md";
    return {
      failure: { kind: "port-missing", port: id, detail: `it may not be opened (${messageOf(error)}); ${remedy}` },
    };
  }
  return { id, path: found.path };
}

type Chosen =
  | { readonly ok: true; readonly images: readonly SerialImage[] }
  | { readonly ok: false; readonly failure: Failure };

/** Which images of a build a tool writes; the others may be needed beside them (`{dir}`). */
function chooseImages(tool: SerialTool, images: readonly SerialImage[]): Chosen {
  const unsuitable = (detail: string): Chosen => ({ ok: false, failure: { kind: "image-unsuitable", detail } });
  const ofRole = (role: ImageRole) => images.filter((image) => image.role === role);
  switch (tool.kind) {
    case "esptool": {
      const factory = ofRole("factory");
      if (factory.length > 0) return { ok: true, images: factory };
      return unsuitable("the build has no image of the role factory, which is what goes over a port");
    }
    case "avrdude": {
      const hex = images.filter(({ name, role }) => role !== "debug" && /\.i?hex$/i.test(name));
      if (hex.length === 1) return { ok: true, images: hex };
      return unsuitable(`avrdude writes one file of Intel HEX, and the build has ${hex.length} (*.hex)`);
    }
    case "command": {
      const roles: readonly ImageRole[] = ["factory", "ota", "other"];
      const found = roles.map(ofRole).find((some) => some.length > 0) ?? [];
      if (found.length === 1) return { ok: true, images: found };
      return unsuitable(
        `a command writes one image, and the build has ${found.length} of the role ${roles.join(" or ")}`,
      );
    }
  }
}

async function writeImage(folder: string, image: SerialImage, index: number): Promise<ToolImage> {
  // A manifest's names have no folder; what does not keep to that gets a name of ours.
  const name = /^[\w.+-]+$/.test(image.name) && !/^\.+$/.test(image.name) ? image.name : `image-${index}`;
  const path = join(folder, name);
  await writeFile(path, image.bytes, { flag: "wx" });
  return { path, name: image.name, bytes: image.bytes, offset: image.offset ?? 0 };
}

/** Each program that is started may take what is left of the whole. */
function toolOptionsOf({ clock, ledger }: SerialBench, options: SerialFlashOptions): ToolOptions {
  const { signal, limit = stageLimits.flashing } = options;
  const until = clock.monotonic() + limit.totalMs;
  return {
    signal,
    mayStart: () => options.mayStart(),
    onEvent: (event) => options.onEvent(event),
    limit: () => ({ ...limit, totalMs: Math.max(1, Math.ceil(until - clock.monotonic())) }),
    clock,
    ...(ledger === undefined ? {} : { ledger }),
  };
}

/** The chip is of the right kind; whether it is the very one, only its address tells. */
function withMac(target: SerialTarget, identified: Identified): Identified {
  const { mac: wanted } = target;
  if (!identified.ok || wanted === undefined) return identified;
  const found = identified.identity.mac ?? "a chip that does not say its address";
  if (found.toUpperCase() === wanted.toUpperCase()) return identified;
  return {
    ok: false,
    failure: { kind: "wrong-device", address: target.port, wanted: `${target.name} (${wanted})`, found },
  };
}

function stopFailure(target: SerialTarget, stop: Extract<Attempt<object>, { readonly ok: false }>): Failure {
  return stop.aborted ? cancelled(target) : stop.failure;
}

function cancelled(target: SerialTarget): Failure {
  return notBegun(target.tool.kind, target.port, "queueing", "none", "cancelled");
}

function unknownFlasher(name: string, { flashers }: SerialBench): Failure {
  const known = flashers.size === 0 ? "none" : [...flashers.keys()].join(", ");
  return {
    kind: "toolchain-missing",
    missing: `the flasher ${name}`,
    detail: `this agent allows: ${known} (FLASHYARD_FLASHERS)`,
  };
}

function lineOf(options: Pick<ToolOptions, "onEvent">): (line: string) => void {
  return (text) => options.onEvent({ kind: "line", text });
}
