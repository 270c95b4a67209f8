/**
 * The serial ports of this machine. The only importer of serialport, which is loaded when it is needed: where it has no binary for the
 * machine, an agent still works over the air, and on Linux over its ports as well.
 *
 * 1. A port has one name for good (`SerialPortView.id`); two ports that would have the same one have it both not, because a job
 *    that names it could reach either.
 * 2. What the owner named himself (`FLASHYARD_PORTS`) has that name and no other, and nothing else has it.
 */
import { watch } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import type { Clock } from "#actor/clock.ts";
import { messageOf } from "#protocol/errors.ts";
import type { PortId, SerialPortView } from "#protocol/serial.ts";
import { listLinuxPorts, portIdOf, viewOf } from "#upload-agent/serial/linux-ports.ts";

/** How often the list is read anew where nothing says that it has changed. */
const listEveryMs = 5_000;
/** udev names a new port some time after the kernel has made it; and a hub brings many. */
const settleMs = 300;
/** A list takes milliseconds; a driver that hangs must not hide the other ports for ever. */
const listMsMax = 5_000;
/** How often a port that is read is looked for. */
const goneEveryMs = 200;

export interface SerialPortsOptions {
  readonly clock: Clock;
  /** See `readNamedPorts`. */
  readonly named?: ReadonlyMap<PortId, string>;
  /** What the system has; other ones in tests. */
  readonly list?: () => Promise<readonly SerialPortView[]>;
}

export class SerialPorts {
  readonly #options: SerialPortsOptions;

  constructor(options: SerialPortsOptions) {
    this.#options = options;
  }

  /** What is plugged in now. Throws nothing: a system that cannot be asked has no ports but the named ones. */
  async list(): Promise<readonly SerialPortView[]> {
    const [system, named] = await Promise.all([this.#systemPorts(), this.#namedPorts()]);
    const paths = new Set(await Promise.all(named.map(({ path }) => plainPath(path))));
    const ids = new Set(named.map(({ id }) => id));
    const others = await Promise.all(
      system.map(async (port) => (ids.has(port.id) || paths.has(await plainPath(port.path)) ? undefined : port)),
    );
    return withoutTwins([...named, ...others.filter((port) => port !== undefined)]);
  }

  /** @returns undefined when nothing of that name is plugged in. */
  async find(id: PortId): Promise<SerialPortView | undefined> {
    return (await this.list()).find((port) => port.id === id);
  }

  /** Tells what is plugged in, and then again whenever it is something else, until the signal fires. */
  async follow(signal: AbortSignal, onPorts: (ports: readonly SerialPortView[]) => void): Promise<void> {
    const { clock } = this.#options;
    let told: string | undefined;
    let round = new AbortController();
    const endRound = () => round.abort();
    using _devices = watchDevices(endRound);
    signal.addEventListener("abort", endRound, { once: true });
    while (!signal.aborted) {
      round = new AbortController();
      const ports = await this.list();
      if (signal.aborted) return;
      const places = JSON.stringify(ports.map(({ id, path }) => [id, path]));
      if (places !== told) onPorts(ports);
      told = places;
      await clock.pause(listEveryMs, round.signal);
      if (round.signal.aborted) await clock.pause(settleMs, signal);
    }
  }

  async #systemPorts(): Promise<readonly SerialPortView[]> {
    const { list = process.platform === "linux" ? listLinuxPorts : listOtherPorts, clock } = this.#options;
    const ended = new AbortController();
    const late = clock.pause(listMsMax, ended.signal).then(() => []);
    try {
      return await Promise.race([list().catch(() => []), late]);
    } finally {
      ended.abort();
    }
  }

  async #namedPorts(): Promise<readonly SerialPortView[]> {
    const named = [...(this.#options.named ?? new Map<PortId, string>())];
    const found = await Promise.all(
      named.map(async ([id, path]) => ((await stat(path).catch(() => undefined)) === undefined ? [] : [{ id, path }])),
    );
    return found.flat();
  }
}

/** macOS and Windows: by what the system says of the adapter, otherwise by its path (`tty.usbserial-1420`, `COM3`). */
async function listOtherPorts(): Promise<readonly SerialPortView[]> {
  const { SerialPort } = await import("serialport");
  const ports = await SerialPort.list();
  return ports.map(({ path, manufacturer, serialNumber, vendorId, productId }) => {
    const name = [path.split("/").at(-1) ?? path];
    const own = serialNumber === undefined ? name : ["usb", vendorId ?? "", productId ?? "", serialNumber];
    return viewOf(portIdOf(own), path, { manufacturer, serialNumber, vendorId, productId });
  });
}

/** Invariant 1. */
function withoutTwins(ports: readonly SerialPortView[]): readonly SerialPortView[] {
  return ports.filter(({ id }) => ports.filter((port) => port.id === id).length === 1);
}

async function plainPath(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

/** Calls at once when something came or went, where the kernel tells. */
function watchDevices(onChange: () => void): Disposable {
  let watcher: ReturnType<typeof watch> | undefined;
  try {
    watcher = watch("/dev", { persistent: false }, (_, name) =>
      name?.startsWith("tty") === true ? onChange() : undefined,
    );
    watcher.on("error", () => watcher?.close());
  } catch {
    // Windows, or a kernel without inotify left.
  }
  return { [Symbol.dispose]: () => watcher?.close() };
}

export interface OpenPort extends AsyncDisposable {
  /** Resolves when the port is gone or was closed. */
  readonly closed: Promise<void>;
}

/**
 * Opens a port for reading, alone: the kernel refuses whoever comes second (flock). The lines DTR and RTS are let go, so that a board
 * with the usual reset circuit runs on.
 * @returns the system's message when it cannot be opened
 */
export async function openForReading(
  path: string,
  baud: number,
  clock: Clock,
  onBytes: (bytes: Buffer) => void,
): Promise<OpenPort | { readonly refused: string }> {
  const { SerialPort } = await import("serialport");
  const port = new SerialPort({ path, baudRate: baud, autoOpen: false, lock: true });
  const refused = await new Promise<string | undefined>((resolve) =>
    port.open((error) => resolve(error === null || error === undefined ? undefined : messageOf(error))),
  );
  if (refused !== undefined) return { refused };
  const close = () => (port.isOpen ? port.close(() => undefined) : undefined);
  const over = new AbortController();
  const closed = new Promise<void>((resolve) => port.once("close", () => resolve())).finally(() => over.abort());
  port.on("error", close);
  port.on("data", onBytes);
  // A terminal without such lines refuses, and reads all the same.
  port.set({ dtr: false, rts: false }, () => undefined);
  void closeWhenGone(path, clock, over.signal, close);
  return {
    closed,
    async [Symbol.asyncDispose]() {
      close();
      await closed;
    },
  };
}

/** serialport 13 does not notice that an adapter is pulled out: the kernel gives it no bytes, and it asks again without a pause. */
async function closeWhenGone(path: string, clock: Clock, signal: AbortSignal, close: () => void): Promise<void> {
  const inode = async () => (await stat(path).catch(() => undefined))?.ino;
  const own = await inode();
  while (await clock.pause(goneEveryMs, signal)) {
    if ((await inode()) !== own) close();
  }
}
