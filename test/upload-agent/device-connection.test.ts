/** The connection's own promises, by number. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { startBluntPeer } from "#test/fixtures/blunt-peer.ts";
import { startFullHouse } from "#test/fixtures/full-house.ts";
import { DeviceConnection, resolveHost } from "#upload-agent/device-connection.ts";

const limits = { connectMs: 2_000, unreadBytesMax: 1_000, lastWordMs: 500 };

async function open(port: number, signal = new AbortController().signal): Promise<DeviceConnection> {
  const opened = await DeviceConnection.open("127.0.0.1", port, { ...limits, signal });
  if (!(opened instanceof DeviceConnection)) throw new Error(opened.detail);
  return opened;
}

/** A server whose every connection is handed to `serve`. */
async function listen(serve: (socket: Socket) => void): Promise<AsyncDisposable & { port: number }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    serve(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

describe("a connection to a device", () => {
  it("gives the device's last word although the next write fails (1)", async () => {
    await using peer = await startBluntPeer([0x83], "reset");
    using connection = await open(peer.port);
    expect(await connection.write([Buffer.alloc(8192)], 1_000)).toBeUndefined();
    peer.sleepUntilItActed();
    // The kernel knows of the reset and this process does not: the write is the first to meet it.
    expect(await connection.write([Buffer.alloc(8192)], 1_000)).toMatchObject({ kind: "broken" });
    expect(connection.nextByte).toBe(0x83);
  });

  it("gives what arrived while the process was stopped beyond its limit (1)", async () => {
    await using peer = await startBluntPeer([0x44, 0x45], "stay");
    using connection = await open(peer.port);
    await connection.write([Buffer.of(1)], 1_000);
    const reading = connection.read(2, 50);
    peer.sleepUntilItActed(100);
    expect(await reading).toEqual(Buffer.of(0x44, 0x45));
  });

  it("gives the bytes before the end, and then the end (1)", async () => {
    await using server = await listen((socket) => socket.end("abc"));
    using connection = await open(server.port);
    expect(await connection.read(2, 1_000)).toEqual(Buffer.from("ab"));
    expect(await connection.read(2, 1_000)).toEqual({ kind: "closed" });
    expect(await connection.read(1, 1_000)).toEqual(Buffer.from("c"));
  });

  it("gives up on a silent device (2)", async () => {
    await using server = await listen(() => {});
    using connection = await open(server.port);
    expect(await connection.read(1, 50)).toEqual({ kind: "silent", limitMs: 50 });
  });

  it("gives up on a device that takes nothing (2)", async () => {
    await using server = await listen((socket) => socket.pause());
    using connection = await open(server.port);
    expect(await connection.write([Buffer.alloc(32 * 1024 * 1024)], 100)).toEqual({ kind: "silent", limitMs: 100 });
  });

  it("stops waiting when it is cut (2)", async () => {
    const gone = Promise.withResolvers<string | undefined>();
    await using server = await listen((socket) =>
      socket.once("error", (error: NodeJS.ErrnoException) => gone.resolve(error.code)),
    );
    using connection = await open(server.port);
    const reading = connection.read(1, 5_000);
    connection.cut();
    expect(await reading).toEqual({ kind: "cut" });
    expect(await connection.write([Buffer.of(1)], 1_000)).toEqual({ kind: "cut" });
    // The device learns at once, and frees its session.
    expect(await gone.promise).toBe("ECONNRESET");
  });

  it("cuts off a device that sends what nobody reads (3)", async () => {
    await using server = await listen((socket) => socket.write(Buffer.alloc(100_000)));
    using connection = await open(server.port);
    expect(await connection.read(50_000, 2_000)).toMatchObject({ kind: "flooded" });
  });

  it("says why nobody is there", async () => {
    const server = await listen(() => {});
    const port = server.port;
    await server[Symbol.asyncDispose]();
    const signal = new AbortController().signal;
    const opened = await DeviceConnection.open("127.0.0.1", port, { ...limits, signal });
    expect(opened).toMatchObject({ kind: "not-connected", detail: expect.stringContaining("ECONNREFUSED") });
  });

  it("gives up on a host that neither accepts nor refuses", async () => {
    await using house = await startFullHouse();
    const signal = new AbortController().signal;
    const opened = await DeviceConnection.open("127.0.0.1", house.port, { ...limits, connectMs: 100, signal });
    expect(opened).toEqual({ kind: "not-connected", detail: "no answer for 0.1 s" });
  });

  it("stops connecting when it is cancelled", async () => {
    await using house = await startFullHouse();
    const cancel = new AbortController();
    const opening = DeviceConnection.open("127.0.0.1", house.port, { ...limits, signal: cancel.signal });
    cancel.abort();
    expect(await opening).toEqual({ kind: "not-connected", detail: "cancelled" });
  });
});

describe("a host's name", () => {
  it("is taken as it is when it is an address", async () => {
    const signal = new AbortController().signal;
    expect(await resolveHost("127.0.0.1", { withinMs: 100, signal })).toEqual(["127.0.0.1"]);
    expect(await resolveHost("::1", { withinMs: 100, signal })).toEqual(["::1"]);
  });

  it("gives all its addresses, each once", async () => {
    const found = await resolveHost("localhost", { withinMs: 2_000, signal: new AbortController().signal });
    expect(found).toContain("127.0.0.1");
    expect(new Set(found as readonly string[]).size).toBe((found as readonly string[]).length);
  });

  it("is not asked for once the flash was cancelled", async () => {
    expect(await resolveHost("localhost", { withinMs: 2_000, signal: AbortSignal.abort() })).toMatchObject({
      kind: "not-connected",
    });
  });
});
