import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startChildServer } from "#actor/child-server.ts";
import { freePort, requireFreePort, takesConnections } from "#actor/loopback-port.ts";
import { GroupLedger, isGroupAlive } from "#actor/process-group.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

/** Listens on the port that it is given, and says so. */
const listening = (port: number) => [
  process.execPath,
  "-e",
  `require("node:net").createServer().listen(${port}, "127.0.0.1")`,
];

async function occupied(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return {
    port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, "close");
    },
  };
}

test("a server runs on a free port until it is stopped, and is noted while it runs", async () => {
  await using home = await temporaryFolder();
  const groups = join(home.path, "groups");
  const server = await startChildServer({ name: "a server", argvFor: listening, ledger: new GroupLedger(groups) });
  expect(await takesConnections(server.port)).toBe(true);
  const [pid] = await readdir(groups);
  await server.stop();
  await server.stop();
  expect(await takesConnections(server.port)).toBe(false);
  expect(isGroupAlive(Number(pid))).toBe(false);
  expect(await readdir(groups)).toEqual([]);
  expect((await server.ended).end).toEqual({ kind: "aborted" });
});

test("a server that dies is noticed", async () => {
  const server = await startChildServer({ name: "a server", argvFor: listening, onStart: (pid) => (started = pid) });
  process.kill(started, "SIGKILL");
  expect((await server.ended).end).toEqual({ kind: "signalled", signal: "SIGKILL" });
});
let started = 0;

test("a port that is taken is the caller's mistake, and nothing is started", async () => {
  await using other = await occupied();
  let asked = 0;
  const argvFor = (port: number) => {
    asked += 1;
    return listening(port);
  };
  const error = await startChildServer({ name: "the server", port: other.port, argvFor }).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(UsageError);
  expect(error).toMatchObject({ code: "port-taken", facts: { port: other.port } });
  expect(error.message).toContain(`port ${other.port}`);
  expect(error.message).toContain("the server needs it");
  expect(asked).toBe(0);
});

test("a program that exits at once is quoted with its last words", async () => {
  const argvFor = () => ["sh", "-c", "echo the disk is on fire >&2; exit 1"];
  const error = await startChildServer({ name: "a server", argvFor }).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(UnavailableError);
  expect(error.code).toBe("server-not-started");
  expect(error.message).toContain("the disk is on fire");
});

test("a program that is not there is named", async () => {
  const error = await startChildServer({ name: "a server", argvFor: () => ["/no/such/server"] }).catch((e) => e);
  expect(error).toBeInstanceOf(UnavailableError);
  expect(error.message).toMatch(/^\/no\/such\/server did not start:\n.*ENOENT/);
});

test("a free port is free, differs from one that is taken, and a port that may not be used says why", async () => {
  await using other = await occupied();
  const port = await freePort();
  expect(port).not.toBe(other.port);
  await requireFreePort(port, "a test");
  expect(await takesConnections(port)).toBe(false);
  expect(await takesConnections(other.port)).toBe(true);
  await expect(requireFreePort(other.port, "a test")).rejects.toMatchObject({ code: "port-taken" });
});
