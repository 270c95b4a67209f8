/**
 * `npm run bench:artifacts`: MB/s of bundles and artifacts into the farm's store and out of it, next to NATS's own client and to
 * raw TCP. Prints a table; there is no pass or fail. README.md says what is measured and what is not.
 */
import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { Objm } from "@nats-io/obj";
import { digestOf } from "#actor/digest.ts";
import { InvariantError } from "#protocol/errors.ts";
import { objectStores } from "#protocol/names.ts";
import { connect } from "#bus/connection.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { declareTopology } from "#bus/topology.ts";
import { median } from "#bench/percentile.ts";
import { findServer, printHead, runProgram } from "#bench/program.ts";

const usage = `node bench/artifacts.ts [--quick]
  --quick      one round instead of five`;

const sizes = [1, 8, 64] as const;
const kinds = ["incompressible", "firmware-like"] as const;
type Kind = (typeof kinds)[number];

/** Brings a content there and back. @returns ms for either way */
interface Way {
  readonly name: string;
  readonly turn: (content: Buffer) => Promise<{ readonly inMs: number; readonly outMs: number }>;
}

/** Different each time: what is there already is not sent again. */
async function contentOf(kind: Kind, bytes: number): Promise<Buffer> {
  const content = Buffer.alloc(bytes);
  if (kind === "incompressible") return randomFillSync(content);
  // Machine code; with a third of it made random as large when compressed as images of ESP32 are.
  await using program = await open(process.execPath);
  const from = Math.floor(Math.random() * 8_000_000) + 20_000_000;
  await program.read(content, 0, bytes, from);
  for (let at = 0; at < bytes; at += 192) randomFillSync(content, at, Math.min(64, bytes - at));
  return content;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function ourWay(store: ObjectStore, folder: string): Way {
  const [source, target] = [join(folder, "source"), join(folder, "target")];
  return {
    name: "flashyard, file to file",
    async turn(content) {
      const digest = digestOf(content);
      await writeFile(source, content);
      const inMs = await timed(() => store.putFile(digest, source));
      const outMs = await timed(async () => {
        const found = await store.getFile(digest, target);
        if (!found.ok) throw new InvariantError("lost", `what was stored is ${found.found}`);
      });
      await store.remove([digest]);
      await rm(target);
      return { inMs, outMs };
    },
  };
}

function clientsWay(store: Awaited<ReturnType<Objm["open"]>>): Way {
  return {
    name: "NATS client, memory to memory",
    async turn(content) {
      const inMs = await timed(() => store.putBlob({ name: "object" }, content));
      const outMs = await timed(() => store.getBlob("object"));
      await store.delete("object");
      return { inMs, outMs };
    },
  };
}

function tcpWay(port: number): Way {
  const exchange = async (head: bigint, content: Buffer) => {
    const socket: Socket = connectTcp({ host: "127.0.0.1", port, noDelay: true });
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(head);
    socket.write(bytes);
    if (content.length > 0) socket.write(content);
    socket.resume();
    await once(socket, "close");
  };
  return {
    name: "raw TCP",
    turn: async (content) => ({
      inMs: await timed(() => exchange(BigInt(content.length), content)),
      outMs: await timed(() => exchange(BigInt(-content.length), Buffer.alloc(0))),
    }),
  };
}

interface Row {
  readonly kind: Kind;
  readonly size: number;
  readonly name: string;
  readonly inRate: number;
  readonly outRate: number;
}

/** Contenders take turns, so that what else the machine does falls on all. */
async function measure(ways: readonly Way[], kind: Kind, size: number, rounds: number): Promise<readonly Row[]> {
  const turns = ways.map(() => [] as { inMs: number; outMs: number }[]);
  // The first round of little ones compiles the code.
  for (let round = size > 8 ? 1 : 0; round <= rounds; round += 1) {
    const content = await contentOf(kind, size * 1_000_000);
    for (const [index, way] of ways.entries()) {
      const turn = await way.turn(content);
      if (round > 0) turns[index]?.push(turn);
    }
  }
  const rate = (times: readonly number[]) => (size * 1000) / median(times);
  return ways.map(({ name }, index) => ({
    kind,
    size,
    name,
    inRate: rate((turns[index] ?? []).map(({ inMs }) => inMs)),
    outRate: rate((turns[index] ?? []).map(({ outMs }) => outMs)),
  }));
}

async function ratio(store: ObjectStore, kind: Kind): Promise<number> {
  const content = await contentOf(kind, 8_000_000);
  const digest = digestOf(content);
  await store.put(digest, content);
  const stored = (await store.list()).find((object) => object.digest === digest);
  await store.remove([digest]);
  return content.length / (stored?.storedBytes ?? Number.NaN);
}

async function main(rounds: number, signal: AbortSignal): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "flashyard-bench-"));
  const binary = await findServer(signal);
  const server = await startEmbeddedServer({ binary: binary.path, folder: join(folder, "nats") });
  const peer = new Worker(join(import.meta.dirname, "loopback-peer.ts"));
  const listening = once(peer, "message");
  const connection = await connect(server.url, "bench");
  try {
    await declareTopology(connection);
    const [port] = (await listening) as [number];
    const store = new ObjectStore(connection, objectStores.artifacts);
    const clients = await new Objm(connection).open(objectStores.bundles);
    const ways = [ourWay(store, folder), clientsWay(clients), tcpWay(port)];
    printHead("artifacts", `nats-server ${binary.version}`);
    console.log(`sync_interval always; rounds: ${rounds}; medians, MB/s in / out\n`);
    for (const kind of kinds) {
      console.log(`== ${kind}, stored at 1/${(await ratio(store, kind)).toFixed(2)} of its size ==`);
      for (const size of sizes) {
        signal.throwIfAborted();
        for (const { name, inRate, outRate } of await measure(ways, kind, size, rounds)) {
          console.log(
            `${String(size).padStart(3)} MB  ${name.padEnd(30)} ${inRate.toFixed(0).padStart(5)} / ${outRate.toFixed(0)}`,
          );
        }
      }
    }
  } finally {
    await connection.close();
    await peer.terminate();
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

await runProgram(usage, { quick: { type: "boolean" } }, ({ quick = false }, signal) => main(quick ? 1 : 5, signal));
