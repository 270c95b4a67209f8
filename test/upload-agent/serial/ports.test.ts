import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import type { UploadCapabilities } from "#protocol/agent.ts";
import { PortId, serialLogBaud, type SerialPortView } from "#protocol/serial.ts";
import { Pty } from "#simulator/pty.ts";
import { PortWatch } from "#upload-agent/serial/bench-of-agent.ts";
import { listLinuxPorts } from "#upload-agent/serial/linux-ports.ts";
import { readNamedPorts } from "#upload-agent/serial/named-ports.ts";
import { holderOf, PortOwners } from "#upload-agent/serial/port-owner.ts";
import { openForReading, SerialPorts } from "#upload-agent/serial/ports.ts";
import { readSerialLog, type SerialLogEnd } from "#upload-agent/serial/serial-log.ts";
import { letGo } from "#test/support/serial-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const bench = PortId.parse("bench");
const clock = systemClock;

let folder: TemporaryFolder;

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(() => folder[Symbol.asyncDispose]());

describe("names that the owner gives", () => {
  test("are read with their paths", () => {
    expect([...readNamedPorts("bench=/dev/pts/3, spare=/dev/serial/by-path/x=y")]).toEqual([
      ["bench", "/dev/pts/3"],
      ["spare", "/dev/serial/by-path/x=y"],
    ]);
    expect(readNamedPorts(undefined).size).toBe(0);
  });

  test.each(["bench", "=/dev/x", "a b=/dev/x", "a=/dev/x,a=/dev/y", "a=/dev/x,b=/dev/x"])("%s is refused", (text) => {
    expect(() => readNamedPorts(text)).toThrow(expect.objectContaining({ code: "bad-setting" }));
  });
});

describe("the ports of a Linux machine", () => {
  interface Adapter {
    readonly vendor: string;
    readonly product: string;
    readonly serial?: string;
    readonly maker?: string;
    readonly byId?: string;
  }

  /** As the kernel and udev show an adapter that is plugged into a socket. */
  async function plugIn(
    name: string,
    socket: string,
    { vendor, product, serial, maker, byId }: Adapter,
  ): Promise<void> {
    const usb = join(folder.path, "sys/devices/usb1", socket);
    const files = { idVendor: vendor, idProduct: product, serial, manufacturer: maker };
    const terminal = join(usb, `${socket}:1.0`, name);
    await mkdir(terminal, { recursive: true });
    for (const [file, text] of Object.entries(files))
      if (text !== undefined) await writeFile(join(usb, file), `${text}\n`);
    await place(join("sys/class/tty", name), async (path) => {
      await mkdir(path);
      await symlink(terminal, join(path, "device"));
    });
    await place(join("dev", name), (path) => writeFile(path, ""));
    if (byId !== undefined) await place(join("dev/serial/by-id", byId), (path) => symlink(`../../${name}`, path));
  }

  async function place(path: string, make: (path: string) => Promise<void>): Promise<void> {
    const full = join(folder.path, path);
    await mkdir(dirname(full), { recursive: true });
    await make(full);
  }

  const list = () => listLinuxPorts({ sys: join(folder.path, "sys"), dev: join(folder.path, "dev") });
  const ch340 = { vendor: "1a86", product: "7523" };

  test("an adapter is called what udev calls it", async () => {
    const byId = "usb-Silicon_Labs_CP2102_USB_to_UART_Bridge_Controller_0001-if00-port0";
    await plugIn("ttyUSB0", "1-1.4", { vendor: "10c4", product: "ea60", serial: "0001", maker: "Silicon Labs", byId });
    expect(await list()).toEqual([
      {
        id: byId,
        path: join(folder.path, "dev/ttyUSB0"),
        vendorId: "10c4",
        productId: "ea60",
        manufacturer: "Silicon Labs",
        serialNumber: "0001",
      },
    ]);
  });

  test("without udev it is called by vendor, product and serial number", async () => {
    await plugIn("ttyACM0", "1-2", { vendor: "303a", product: "1001", serial: "34:85:18:00:11:22" });
    expect((await list()).map(({ id }) => id)).toEqual(["usb-303a-1001-34:85:18:00:11:22"]);
  });

  test("two that have the same name are called by their sockets, whichever came last", async () => {
    await plugIn("ttyUSB0", "1-1.1", ch340);
    expect((await list()).map(({ id }) => id)).toEqual(["usb-1a86-7523-at-1-1.1"]);
    await plugIn("ttyUSB1", "1-1.2", { ...ch340, byId: "usb-1a86_USB_Serial-if00-port0" });
    expect((await list()).map(({ id }) => id)).toEqual(["usb-1a86-7523-at-1-1.1", "usb-1a86-7523-at-1-1.2"]);
  });

  test("a UART of the board has the kernel's name, unless nothing is behind it", async () => {
    for (const [name, type] of [
      ["ttyS0", "0"],
      ["ttyS1", "4"],
      ["ttyAMA0", "32"],
    ] as const) {
      await place(join("sys/class/tty", name), (path) => mkdir(path));
      await writeFile(join(folder.path, "sys/class/tty", name, "type"), `${type}\n`);
      await place(join("dev", name), (path) => writeFile(path, ""));
    }
    await place("sys/class/tty/tty7", (path) => mkdir(path));
    expect((await list()).map(({ id }) => id)).toEqual(["ttyAMA0", "ttyS1"]);
  });

  test("what a maker wrote does not make a name impossible", async () => {
    await plugIn("ttyUSB0", "1-1", { ...ch340, serial: "ä b/c?", maker: "x".repeat(500) });
    expect((await list()).map(({ id, manufacturer }) => [id, manufacturer?.length])).toEqual([
      ["usb-1a86-7523-_b_c_", 120],
    ]);
  });

  test("a machine without any has none", async () => {
    expect(await list()).toEqual([]);
  });
});

describe("the list of an agent", () => {
  const port = (id: string, path: string): SerialPortView => ({ id: PortId.parse(id), path });

  test("holds what the owner named in the place of what the system calls it", async () => {
    const device = join(folder.path, "ttyUSB0");
    await writeFile(device, "");
    const list = async () => [port("usb-1a86-7523", device), port("bench", "/dev/zero"), port("other", "/dev/null")];
    const ports = new SerialPorts({ clock, named: new Map([[bench, device]]), list });
    expect(await ports.list()).toEqual([port("bench", device), port("other", "/dev/null")]);
    expect(await ports.find(PortId.parse("usb-1a86-7523"))).toBeUndefined();
  });

  test("holds none of two that have the same name", async () => {
    const list = async () => [port("twin", "/dev/a"), port("twin", "/dev/b"), port("own", "/dev/c")];
    expect(await new SerialPorts({ clock, list }).list()).toEqual([port("own", "/dev/c")]);
  });

  test("is empty when the system cannot be asked", async () => {
    const list = () => Promise.reject(new Error("no udev"));
    expect(await new SerialPorts({ clock, list }).list()).toEqual([]);
  });

  test("is told whole to who listens only after it was seen, and again with each change", async () => {
    const both = [port("one", "/dev/zero"), port("other", "/dev/null")];
    let change: (ports: readonly SerialPortView[]) => void = () => undefined;
    const follow = async (_signal: AbortSignal, onPorts: typeof change) => {
      change = onPorts;
      onPorts(both);
    };
    await using watch = new PortWatch({ ports: { follow }, flashers: new Map() });
    await watch.start();
    const told: UploadCapabilities[] = [];
    watch.tellTo((capabilities) => told.push(capabilities));
    change([]);
    expect(told).toEqual([
      { ports: both, flashers: [] },
      { ports: [], flashers: [] },
    ]);
  });

  test("tells what comes and goes", async () => {
    const device = join(folder.path, "tty");
    const lists: (readonly SerialPortView[])[] = [];
    const stop = new AbortController();
    const ports = new SerialPorts({
      clock: { ...clock, pause: (_ms, signal) => clock.pause(5, signal) },
      named: new Map([[bench, device]]),
      list: async () => [],
    });
    const following = ports.follow(stop.signal, (list) => lists.push(list));
    const until = (count: number) =>
      poll(clock, { everyMs: 5, withinMs: 5_000 }, () => (lists.length === count ? true : undefined));
    await using terminal = await Pty.open({ onBytes: () => undefined });
    expect(await until(1)).toBe(true);
    await symlink(terminal.path, device);
    expect(await until(2)).toBe(true);
    await terminal[Symbol.asyncDispose]();
    expect(await until(3)).toBe(true);
    stop.abort();
    await following;
    expect(lists).toEqual([[], [port("bench", device)], []]);
  });
});

describe("one owner at a time", () => {
  const never = new AbortController().signal;

  test("others wait, and get it when it is free", async () => {
    const owners = [1, 2].map(() => new PortOwners({ folder: folder.path, clock }));
    const first = await owners[0]?.own("/dev/null", { signal: never, waitMs: 1_000 });
    const waits = Promise.withResolvers<number>();
    const second = owners[1]?.own("/dev/null", { signal: never, waitMs: 10_000, onWait: waits.resolve });
    expect(await waits.promise).toBe(process.pid);
    await letGo(first);
    const got = await second;
    expect(got?.kind).toBe("owned");
    await letGo(got);
  });

  test("a wait ends by its limit and by its signal; another port is free meanwhile", async () => {
    const owners = new PortOwners({ folder: folder.path, clock });
    const first = await owners.own("/dev/null", { signal: never, waitMs: 1_000 });
    expect(await owners.own("/dev/null", { signal: never, waitMs: 20 })).toEqual({
      kind: "busy",
      holderPid: process.pid,
    });
    expect(await owners.own("/dev/null", { signal: AbortSignal.abort(), waitMs: 20 })).toEqual({ kind: "stopped" });
    const other = await owners.own("/dev/zero", { signal: never, waitMs: 1_000 });
    expect([first.kind, other.kind]).toEqual(["owned", "owned"]);
    for (const owned of [first, other]) await letGo(owned);
  });

  test("who reads and who waits to read are asked to leave, whether they came before the flash or after it", async () => {
    const owners = new PortOwners({ folder: folder.path, clock });
    const asked = [1, 2, 3].map(() => Promise.withResolvers<void>());
    const leave = new AbortController();
    const read = (index: number) =>
      owners.own("/dev/null", { signal: leave.signal, waitMs: 20_000, onAsked: () => asked[index]?.resolve() });
    const reader = await read(0);
    const waiting = read(1);
    const flash = owners.own("/dev/null", { signal: never, waitMs: 20_000 });
    const late = read(2);
    await Promise.all(asked.map(({ promise }) => promise));
    leave.abort();
    expect([await waiting, await late]).toEqual([{ kind: "stopped" }, { kind: "stopped" }]);
    await letGo(reader);
    const owned = await flash;
    expect(owned.kind).toBe("owned");
    await letGo(owned);
  });

  test("another process of ours is waited for, and not asked to leave", async () => {
    await using terminal = await Pty.open({ onBytes: () => undefined });
    const opened = Promise.withResolvers<void>();
    const pid = Promise.withResolvers<number>();
    const stop = new AbortController();
    const reader = runProcess({
      argv: [
        process.execPath,
        join(import.meta.dirname, "../../fixtures/serial/log-reader.ts"),
        terminal.path,
        folder.path,
      ],
      env: plainEnvironment(),
      signal: stop.signal,
      onStart: pid.resolve,
      onLine: (line) => (line === "open" ? opened.resolve() : undefined),
    });
    await opened.promise;
    const owners = new PortOwners({ folder: folder.path, clock });
    expect(await owners.own(terminal.path, { signal: never, waitMs: 50 })).toEqual({
      kind: "busy",
      holderPid: await pid.promise,
    });
    const waiting = Promise.withResolvers<number>();
    const own = owners.own(terminal.path, { signal: never, waitMs: 20_000, onWait: waiting.resolve });
    await waiting.promise;
    stop.abort();
    await reader;
    const owned = await own;
    expect(owned.kind).toBe("owned");
    await letGo(owned);
  });

  test("a program that locks the device itself is seen", async () => {
    await using terminal = await Pty.open({ onBytes: () => undefined });
    expect(await holderOf(terminal.path)).toBeUndefined();
    const open = await openForReading(terminal.path, 9_600, clock, () => undefined);
    expect(await holderOf(terminal.path)).toMatch(new RegExp(`\\(process ${process.pid}\\)$`));
    expect(await openForReading(terminal.path, 9_600, clock, () => undefined)).toEqual({
      refused: expect.stringContaining("lock"),
    });
    if ("closed" in open) await open[Symbol.asyncDispose]();
    expect(await holderOf(terminal.path)).toBeUndefined();
  });
});

describe("what a device prints", () => {
  interface Reading {
    readonly terminal: Pty;
    readonly lines: readonly string[];
    readonly owners: PortOwners;
    readonly stop: AbortController;
    readonly end: Promise<SerialLogEnd>;
    /** Resolves with the line of that number. */
    readonly has: (count: number) => Promise<boolean | undefined>;
  }

  async function read(): Promise<Reading> {
    const terminal = await Pty.open({ onBytes: () => undefined });
    const owners = new PortOwners({ folder: folder.path, clock });
    const ports = new SerialPorts({ clock, named: new Map([[bench, terminal.path]]), list: async () => [] });
    const lines: string[] = [];
    const stop = new AbortController();
    const opened = Promise.withResolvers<void>();
    const end = readSerialLog(bench, {
      ports,
      owners,
      clock,
      baud: serialLogBaud,
      signal: stop.signal,
      onOpen: opened.resolve,
      onLine: (line) => lines.push(line),
    });
    await opened.promise;
    const has = (count: number) =>
      poll(clock, { everyMs: 5, withinMs: 5_000 }, () => (lines.length >= count ? true : undefined));
    return { terminal, owners, lines, stop, end, has };
  }

  test("comes line by line, until it is called off", async () => {
    const { terminal, lines, has, stop, end } = await read();
    terminal.write(Buffer.from("[I] one\r\n[I] tw"));
    terminal.write(Buffer.from("o\r\nthree"));
    await has(2);
    stop.abort();
    expect(await end).toEqual({ kind: "stopped" });
    expect(lines.slice(0, 2)).toEqual(["[I] one", "[I] two"]);
    await terminal[Symbol.asyncDispose]();
  });

  test("ends when the port is pulled out", async () => {
    const { terminal, end } = await read();
    await terminal[Symbol.asyncDispose]();
    expect(await end).toEqual({ kind: "closed" });
  });

  test("makes way for a flash", async () => {
    const { terminal, owners, end } = await read();
    const flash = await owners.own(terminal.path, { signal: new AbortController().signal, waitMs: 5_000 });
    expect([flash.kind, await end]).toEqual(["owned", { kind: "yielded" }]);
    await letGo(flash);
    await terminal[Symbol.asyncDispose]();
  });

  test("loses no line of a device that says many short ones", async () => {
    const { terminal, lines, stop, end } = await read();
    terminal.write(Buffer.from("x\n".repeat(3_000)));
    terminal.write(Buffer.from("end\n"));
    await poll(clock, { everyMs: 5, withinMs: 5_000 }, () => (lines.at(-1) === "end" ? true : undefined));
    stop.abort();
    await end;
    expect(lines).toEqual([...Array.from({ length: 3_000 }, () => "x"), "end"]);
    await terminal[Symbol.asyncDispose]();
  });

  test("cannot be read where nothing is plugged in", async () => {
    const ports = new SerialPorts({ clock, list: async () => [] });
    const owners = new PortOwners({ folder: folder.path, clock });
    const end = await readSerialLog(bench, {
      ports,
      owners,
      clock,
      baud: serialLogBaud,
      signal: new AbortController().signal,
      onLine: () => undefined,
    });
    expect(end).toMatchObject({ kind: "failed", failure: { kind: "port-missing", port: "bench" } });
  });
});
