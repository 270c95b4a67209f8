/** What is cut is cut, and what is frozen arrives after the thaw. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { CutProxy } from "#test/chaos/cut-proxy.ts";

let world: AsyncDisposableStack;
let proxy: CutProxy;
/** What the server has taken in. */
let heard: string;

beforeEach(async () => {
  world = new AsyncDisposableStack();
  heard = "";
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
      socket.write(chunk);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  world.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  proxy = world.use(await CutProxy.start((server.address() as { port: number }).port));
});
afterEach(() => world.disposeAsync());

/** A client whose errors are an end like any other. */
function client(): Socket & { readonly said: () => string } {
  const socket = connect(proxy.port, "127.0.0.1");
  let said = "";
  socket.on("error", () => undefined);
  socket.on("data", (chunk: Buffer) => (said += chunk.toString()));
  world.defer(() => void socket.destroy());
  return Object.assign(socket, { said: () => said });
}

async function until(condition: () => boolean): Promise<void> {
  const seen = await poll(systemClock, { everyMs: 5, withinMs: 10_000 }, () => (condition() ? true : undefined));
  expect(seen).toBe(true);
}

test("an open proxy passes both sides on", async () => {
  const socket = client();
  socket.write("hello");
  await until(() => socket.said() === "hello");
});

test("a frozen proxy keeps connections, old and new, and delivers after the thaw what was sent meanwhile", async () => {
  const old = client();
  old.write("before ");
  await until(() => old.said() === "before ");
  proxy.freeze();
  old.write("meanwhile");
  const fresh = client();
  fresh.write("fresh");
  await until(() => old.bytesWritten === 16 && fresh.bytesWritten === 5);
  expect(heard).toBe("before ");
  expect([old.destroyed, fresh.destroyed]).toEqual([false, false]);
  proxy.restore();
  await until(() => old.said() === "before meanwhile" && fresh.said() === "fresh");
});

test("a cut proxy resets connections, old and new, until it is restored", async () => {
  const old = client();
  proxy.cut();
  await until(() => old.destroyed);
  const fresh = client();
  await until(() => fresh.destroyed);
  proxy.restore();
  const healed = client();
  healed.write("again");
  await until(() => healed.said() === "again");
});
