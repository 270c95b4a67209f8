/** `flashyard identity`, and what it makes at real nats-servers with the configurations of deploy/. */
import { X509Certificate } from "node:crypto";
import { cp, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { jetstreamManager } from "@nats-io/jetstream";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
let place: TemporaryFolder;

beforeAll(async () => {
  place = await temporaryFolder();
});
afterAll(() => place[Symbol.asyncDispose]());

/** Runs one command line to its end. */
async function identity(...args: readonly string[]) {
  const argv = [process.execPath, join(root, "cli/main.ts"), "identity", ...args];
  const { end, tail } = await runProcess({ argv, env: plainEnvironment(), totalMs: 20_000 });
  return { code: end.kind === "exited" ? end.exitCode : end.kind, said: tail.join("\n") };
}

const certificateOf = async (path: string) => new X509Certificate(await readFile(join(path, "server.pem")));

test("what is there is kept: the keys, what was given to people, and a certificate for the same names", async () => {
  const folder = join(place.path, "kept");
  const first = await identity("init", "--folder", folder, "--host", "n1.lan,10.0.0.1,fd00::1", "--host", "n2.lan");
  expect(first.code, first.said).toBe(0);
  expect(first.said).toContain(`copy ${folder}/nats/n1.lan/ to /etc/flashyard/nats/`);
  const files = ["keys.json", "coordinator.json", "admin.json", "nats/n1.lan/server.key", "nats/n2.lan/server.pem"];
  const read = () => Promise.all(files.map((file) => readFile(join(folder, file), "utf8")));
  const before = await read();
  expect(JSON.parse(before[2] ?? "")).toMatchObject({ servers: "tls://n1.lan:4222,tls://n2.lan:4222" });
  for (const file of files) expect((await stat(join(folder, file))).mode & 0o077, file).toBe(0);
  const again = await identity("init", "--folder", folder, "--host", "n1.lan,10.0.0.1,fd00::1", "--host", "n2.lan");
  expect(again.said).toContain("certificate kept");
  expect(await read()).toEqual(before);
  await identity("init", "--folder", folder, "--host", "n1.lan,10.0.0.2", "--host", "n2.lan");
  expect((await certificateOf(join(folder, "nats/n1.lan"))).subjectAltName).toBe("DNS:n1.lan, IP Address:10.0.0.2");
  expect((await read())[4]).toBe(before[4]);
});

test("renewed certificates have the same names, another key, and are of the same farm", async () => {
  const folder = join(place.path, "renewed");
  const names = "fd00::1,n1.lan";
  await identity("init", "--folder", folder, "--host", names);
  const path = join(folder, "nats/fd00::1");
  const before = await certificateOf(path);
  const { code, said } = await identity("renew-certificates", "--folder", folder);
  expect([code, said]).toEqual([0, expect.stringContaining("systemctl reload flashyard-nats")]);
  const after = await certificateOf(path);
  expect(after.subjectAltName).toBe(before.subjectAltName);
  expect(after.fingerprint256).not.toBe(before.fingerprint256);
  expect(after.verify(new X509Certificate(await readFile(join(path, "authority.pem"))).publicKey)).toBe(true);
});

test("a person gets a file of their own, once", async () => {
  const folder = join(place.path, "people");
  expect((await identity("admin", "ann", "--folder", folder)).said).toContain("`flashyard identity init` makes a farm");
  await identity("init", "--folder", folder, "--host", "n1.lan");
  expect((await identity("admin", "ann", "--folder", folder)).code).toBe(0);
  const text = await readFile(join(folder, "admin-ann.json"), "utf8");
  expect(JSON.parse(text)).toMatchObject({ role: { kind: "admin", name: "ann" }, servers: "tls://n1.lan:4222" });
  expect((await identity("admin", "ann", "--folder", folder)).code).toBe(2);
  expect(await readFile(join(folder, "admin-ann.json"), "utf8")).toBe(text);
  expect((await identity("admin", "Ann!", "--folder", folder)).code).toBe(2);
});

test("names that no machine has are refused", async () => {
  const { code, said } = await identity("init", "--folder", join(place.path, "bad"), "--host", "n1.lan,a b");
  expect([code, said]).toEqual([2, expect.stringContaining('"a b" is no name or address')]);
});

/** A configuration of deploy/ as it would be on its machine, in folders and at ports of this test. */
async function installed(file: string, home: string, ports: Readonly<Record<string, number>>): Promise<string> {
  await mkdir(join(home, "store"), { recursive: true });
  let text = await readFile(join(root, "deploy", file), "utf8");
  text = text.replaceAll("/etc/flashyard/", `${home}/`).replaceAll("/var/lib/flashyard/nats", join(home, "store"));
  for (const [name, port] of Object.entries(ports)) text = text.replaceAll(name, `127.0.0.1:${port}`);
  const path = join(home, "nats-server.conf");
  await writeFile(path, text);
  const lines = join(home, "nats/identity.conf");
  const said = await readFile(lines, "utf8");
  await writeFile(lines, said.replaceAll("/var/lib/flashyard/nats", join(home, "store")));
  return path;
}

test.each([
  { count: 1, files: ["nats-server.conf"] },
  { count: 3, files: ["three-nodes/nats-1.conf", "three-nodes/nats-2.conf", "three-nodes/nats-3.conf"] },
])("$count servers with the configuration of deploy/ let in whom the farm has signed in, by TLS", async ({ files }) => {
  const folder = join(place.path, `farm-${files.length}`);
  const nodes: { readonly port: number; readonly route: number; readonly name: string }[] = [];
  for (const index of files.keys()) {
    nodes.push({ port: await freePort(), route: await freePort(), name: `127.0.0.${index + 1}` });
  }
  const hosts = nodes.flatMap(({ name }) => ["--host", `${name},127.0.0.1`]);
  expect((await identity("init", "--folder", folder, ...hosts)).code).toBe(0);
  const binary = await serverBinary();
  const pids: number[] = [];
  const said: string[] = [];
  await using running = new AsyncDisposableStack();
  for (const [index, { port, route, name }] of nodes.entries()) {
    const home = join(place.path, `${files.length}-${index}`);
    await cp(join(folder, "nats", name), join(home, "nats"), { recursive: true });
    const routes = Object.fromEntries(nodes.map((node, other) => [`n${other + 1}.lan:6222`, node.route]));
    const path = await installed(files[index] ?? "", home, { "0.0.0.0:4222": port, "0.0.0.0:6222": route, ...routes });
    const stop = new AbortController();
    const ended = runProcess({
      argv: [binary, "-c", path],
      env: plainEnvironment(),
      signal: stop.signal,
      onStart: (pid) => pids.push(pid),
      onLine: (line) => said.push(line),
    });
    running.defer(async () => {
      stop.abort();
      await ended;
    });
  }
  const servers = nodes.map(({ port }) => `tls://127.0.0.1:${port}`).join(",");
  const told = await poll(systemClock, { everyMs: 100, withinMs: 20_000 }, async () => {
    const path = join(folder, "coordinator.json");
    const signedIn = await signIn({ path, servers, name: "test" }).catch(() => undefined);
    if (signedIn === undefined) return undefined;
    const { connection } = signedIn;
    try {
      const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 2_000 });
      // In a cluster it needs the routes, and with them what the servers have shown each other.
      const { cluster } = await manager.streams.add({ name: "X", subjects: ["x"], num_replicas: files.length });
      return cluster?.replicas?.length ?? 0;
    } catch {
      return undefined;
    } finally {
      await connection.close();
    }
  });
  expect(told).toBe(files.length - 1);
  // Whoever shows nothing does not get further than to ask.
  const nobody = signIn({ servers, name: "nobody" });
  await expect(nobody).rejects.toThrow(/certificate|authori/i);
  // As `systemctl reload` does it, when a certificate was renewed.
  for (const pid of pids) process.kill(pid, "SIGHUP");
  const reloads = () => said.filter((line) => line.includes("Reloaded: tls")).length;
  const limits = { everyMs: 20, withinMs: 10_000 };
  expect(await poll(systemClock, limits, () => (reloads() >= files.length ? true : undefined)), said.join("\n")).toBe(
    true,
  );
});
