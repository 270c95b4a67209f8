/** What is fed with arbitrary and with mutated bytes: each must end with a value, whatever they are. */
import * as fc from "fast-check";
import { gunzipSync } from "node:zlib";
import { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import { Announcement } from "#protocol/agent.ts";
import { StoredChain } from "#protocol/chain-versions.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { messageOf } from "#protocol/errors.ts";
import { Ask, AskAnswer, Dispatch, PrefetchHint, Progress, StopOrder } from "#protocol/messages.ts";
import { joinLineOf, readJoinLine } from "#protocol/join-line.ts";
import { PairAnswer, PairAsk } from "#protocol/pairing.ts";
import { Awaited, Sightings } from "#protocol/sighting.ts";
import { bundleLimits, readTar } from "#toolchain/archive.ts";
import { cleanLine, ToolOutput } from "#toolchain/tool-output.ts";
import { plainText } from "#upload-agent/device-text.ts";
import { readPacket } from "#upload-agent/mdns-records.ts";
import { frameLength, handshakeMessage } from "#upload-agent/noise-frames.ts";
import { flashOverTheAir } from "#upload-agent/ota.ts";
import { delimitedFields } from "#upload-agent/protobuf.ts";
import { readImage } from "#upload-agent/serial/image-header.ts";
import { entry, pax, tgz } from "#test/hostile/raw-tar.ts";
import { harmful } from "#test/hostile/text.ts";
import { installRequest, statementOf } from "#test/support/farm-builders.ts";
import { uploadDispatch } from "#test/support/lane-bench.ts";
import { answeringWith } from "#test/hostile/answering-server.ts";

export interface FuzzTarget {
  readonly name: string;
  /** Runs in `npm test`; a longer run has as many times more. */
  readonly runs: number;
  /** Throws, or says false, for bytes that it does not bear. */
  readonly bears: (bytes: Uint8Array) => boolean | Promise<boolean>;
  /** Sound ones, which are mutated. */
  readonly seeds: readonly Uint8Array[];
}

const schemas = [
  AdminAnswer,
  AdminRequest,
  Announcement,
  StoredChain,
  Ask,
  AskAnswer,
  Dispatch,
  PrefetchHint,
  Progress,
  StopOrder,
  Awaited,
  PairAnswer,
  PairAsk,
  Sightings,
];
const greeting = [0x00, 0x02, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45];
const sound = gunzipSync(tgz(pax({ path: "a" }), entry({ name: "a", content: "x" }), entry({ name: "b/", type: "5" })));

export const fuzzTargets: readonly FuzzTarget[] = [
  {
    name: "messages of every schema",
    runs: 300,
    seeds: [
      encode({ v: 1, kind: "submit", chains: [installRequest(1)] }),
      encode(statementOf("bench", "compile", { warm: ["a"] })),
      encode(uploadDispatch(1)),
    ],
    bears: (bytes) => schemas.every((schema) => typeof decode(schema, bytes).ok === "boolean"),
  },
  {
    name: "lines to join with",
    runs: 300,
    seeds: [Buffer.from(joinLineOf({ servers: "tls://farm.lan:4222", pin: "0".repeat(64), code: "c0de" }))],
    bears: (bytes) => ["undefined", "object"].includes(typeof readJoinLine(Buffer.from(bytes).toString("latin1"))),
  },
  {
    name: "tars",
    runs: 300,
    seeds: [sound],
    bears: async (bytes) => {
      const paths: string[] = [];
      const source = async function* () {
        yield Buffer.from(bytes);
      };
      await readTar(source(), bundleLimits, ({ path }) => void paths.push(path));
      return paths.every((path) => !/(^|\/)\.\.(\/|$)|^\/|\\/.test(path));
    },
  },
  {
    name: "fields of a device's messages",
    runs: 300,
    seeds: [Uint8Array.of(0x0a, 3, 1, 2, 3, 0x10, 5)],
    bears: (bytes) => [...(delimitedFields(bytes)?.values() ?? [])].every((field) => field.length <= bytes.length),
  },
  {
    name: "frames and refusals of a cipher",
    runs: 300,
    seeds: [Uint8Array.of(1, 0, 3, 1, 2, 3)],
    bears: (bytes) => {
      const refusal = handshakeMessage(bytes);
      return frameLength(bytes, 500) !== 0 && !("reason" in refusal && harmful.test(refusal.reason));
    },
  },
  {
    name: "packets of mDNS",
    runs: 300,
    seeds: [
      Buffer.from(
        '{"answers":[{"name":"a._esphomelib._tcp.local","type":"SRV","ttl":1,"data":{"target":"a.local","port":1}}],"additionals":[]}',
      ),
    ],
    bears: (bytes) => {
      const decoded = Buffer.from(bytes).toString();
      const packet: unknown = /^[[{]/.test(decoded) ? jsonOf(decoded) : decoded;
      return [...readPacket(packet).devices.keys()].every((name) => /^[a-z0-9_-]{1,63}$/.test(name));
    },
  },
  {
    name: "heads of images",
    runs: 300,
    seeds: [Uint8Array.of(0xe9, 1, 2, 0x20, 0, 0, 0, 0x40)],
    bears: (bytes) => typeof readImage(bytes) === "object",
  },
  {
    name: "text of tools and devices",
    runs: 300,
    seeds: [Buffer.from("a\u001b[31mb\u001b]0;x\u0007c\u202ed: error: e")],
    bears: (bytes) => {
      const text = Buffer.from(bytes).toString();
      const shown = [
        cleanLine(text).replaceAll("\t", ""),
        plainText(bytes),
        new ToolOutput().push(text).replaceAll("\t", ""),
      ];
      return !shown.some((line) => harmful.test(line));
    },
  },
  {
    name: "the other side of an upload",
    runs: 40,
    seeds: [Uint8Array.from(greeting)],
    bears: async (bytes) => {
      await using server = await answeringWith(bytes);
      const began = performance.now();
      const result = await flashOverTheAir(
        { kind: "ota", host: "127.0.0.1", port: server.port, encrypted: false, name: "lamp" } as never,
        Buffer.alloc(20_000, 7),
        {
          signal: new AbortController().signal,
          deadlineMs: 3_000,
          mayStart: () => true,
          onEvent: () => undefined,
          limits: { connectMs: 1_000, handshakeMs: 500, silenceMs: 500, lastWordMs: 50 },
        },
      );
      // Success is said by the byte `45` alone.
      return performance.now() - began < 5_000 && (!result.ok || bytes.includes(0x45));
    },
  },
];

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Arbitrary bytes, and sound ones of which some have been replaced, cut out or cut off. */
function bytesFor(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const changes = fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255), cut: fc.nat(3) }), {
    minLength: 1,
    maxLength: 8,
  });
  const mutated = fc.tuple(fc.constantFrom(...seeds), changes, fc.boolean()).map(([seed, all, isCut]) => {
    let bytes = Buffer.from(seed);
    for (const { at, byte, cut } of all) {
      const place = at % Math.max(1, bytes.length);
      bytes = Buffer.concat([bytes.subarray(0, place), Buffer.of(byte), bytes.subarray(place + cut)]);
    }
    return isCut ? bytes.subarray(0, (all[0]?.at ?? 0) % (bytes.length + 1)) : bytes;
  });
  return fc.oneof(fc.uint8Array({ maxLength: 600 }), mutated);
}

/** @returns what was found, with the command that finds it again. Ends after `withinMs`. */
export async function fuzz(
  target: FuzzTarget,
  seed: number,
  times: number,
  withinMs: number,
): Promise<string | undefined> {
  const property = fc.asyncProperty(bytesFor(target.seeds), async (bytes) => target.bears(bytes));
  const runs = { seed, numRuns: target.runs * times, interruptAfterTimeLimit: withinMs };
  const found = await fc.check(property, runs);
  if (!found.failed || found.counterexample === null) return undefined;
  const bytes = Buffer.from(found.counterexample[0]).toString("hex");
  return `${target.name}: ${bytes}\n  npm run fuzz -- --runs ${times} --seed ${seed}\n${messageOf(found.errorInstance)}`;
}
