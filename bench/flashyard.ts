/**
 * The farm itself: the coordinator in a process of its own over an embedded server, and one agent a lane that works it as real
 * agents do, with handlers that do nothing. Every chain has its own configuration and its own device, so that nothing waits for
 * anything but a slot.
 */
import { randomBytes } from "node:crypto";
import { poll, systemClock } from "#actor/clock.ts";
import { type JobHandler, LaneWorker } from "#actor/lane-worker.ts";
import { silentLog } from "#actor/log.ts";
import { memorySpool } from "#actor/result-spool.ts";
import type { ChainRequest } from "#protocol/admin.ts";
import type { CompileCapabilities } from "#protocol/agent.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { InvariantError, UnavailableError } from "#protocol/errors.ts";
import { AgentId, BootId, type ChainId, chainIdFrom, Configuration, Digest } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import type { Ask, AskAnswer } from "#protocol/messages.ts";
import { farmVersion } from "#protocol/version.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { type EmbeddedServer, startEmbeddedServer } from "#bus/embedded-server.ts";
import { askCoordinator } from "#bus/agent-client.ts";
import { laneSource } from "#bus/lanes.ts";
import { announce } from "#bus/presence.ts";
import type { ServerBinary } from "#bus/server-binary.ts";
import type { ChainMarks, Contender, Durability, Lanes } from "#bench/contender.ts";
import { startCoordinator } from "#bench/child.ts";
import { askFor } from "#bench/farm-questions.ts";

const readyMsMax = 20_000;
const patience = { everyMs: 5, withinMs: readyMsMax };

const digest = Digest.parse("0".repeat(64));
const agents = { compile: AgentId.parse("compile-agent"), upload: AgentId.parse("upload-agent") } as const;

export class Flashyard implements Contender {
  readonly name = "flashyard";
  readonly family = "flashyard";
  readonly #binary: () => Promise<ServerBinary>;
  #server: EmbeddedServer | undefined;
  #coordinator: { stop(): Promise<void> } | undefined;

  constructor(binary: () => Promise<ServerBinary>) {
    this.#binary = binary;
  }

  async start(durability: Durability, workFolder: string): Promise<string> {
    const { path } = await this.#binary();
    this.#server = await startEmbeddedServer({ binary: path, folder: workFolder, syncInterval: durability });
    this.#coordinator = await startCoordinator(this.#server.url);
    return `flashyard ${farmVersion}`;
  }

  async open(slots: number, marks: ChainMarks): Promise<Lanes> {
    const url = this.#server?.url ?? "";
    const numbers = new Map<ChainId, number>();
    const numberOf = (id: ChainId): number => {
      const number = numbers.get(id);
      if (number === undefined) throw new InvariantError("foreign-chain", `chain ${id} is not of this run`);
      return number;
    };
    const requester = await connect(url, "requester");
    const opened = [
      await openAgent({ url, lane: "compile", slots }, async ({ chain }) => {
        const number = numberOf(chain);
        marks.compileStarted(number);
        marks.compileDone(number);
        return { kind: "built", manifest, buildMs: 0 };
      }),
      await openAgent(
        { url, lane: "upload", slots, noted: (chain) => marks.chainFinished(numberOf(chain)) },
        async ({ chain }) => {
          marks.uploadStarted(numberOf(chain));
          return { kind: "flashed", level: "committed", wrote: true, flashMs: 0 };
        },
      ),
    ];
    await untilPresent(requester, opened);
    return {
      async request(chains) {
        for (const chunk of chunksOf(chains)) {
          const asked = chunk.map((number) => {
            const request = requestOf(number);
            numbers.set(request.id, number);
            return request;
          });
          await askFor(requester, { v: 1, kind: "submit", chains: asked }, "accepted");
        }
      },
      async close() {
        // The last chains are still on their way to the history.
        await poll(systemClock, patience, async () => {
          const { live } = await askFor(requester, { v: 1, kind: "status" }, "status");
          return live === 0 ? true : undefined;
        });
        for (const agent of opened) await agent.close();
        await requester.close();
      },
    };
  }

  async stop(): Promise<void> {
    await this.#coordinator?.stop();
    this.#coordinator = undefined;
    await this.#server?.stop();
    this.#server = undefined;
  }
}

interface AgentOptions {
  readonly url: string;
  readonly lane: Lane;
  readonly slots: number;
  /** Called when the coordinator has noted the report of a chain's job. */
  readonly noted?: (chain: ChainId) => void;
}

interface OpenAgent {
  readonly boot: BootId;
  close(): Promise<void>;
}

/** The same agents in each run, each time as a new boot: what a machine is that was started again with other settings. */
async function openAgent({ url, lane, slots, noted }: AgentOptions, handler: JobHandler): Promise<OpenAgent> {
  const agent = agents[lane];
  const boot = BootId.parse(randomBytes(8).toString("hex"));
  const connection = await connect(url, agent);
  const ask = async (message: Ask): Promise<AskAnswer> => {
    const answer = await askCoordinator(connection, agent, message);
    if (message.kind === "report" && answer.verdict === "noted") noted?.(message.chain);
    return answer;
  };
  const worker = new LaneWorker({
    identity: {
      agent,
      boot,
      lane,
      slots,
      ...(lane === "compile" ? { compile: capabilities } : {}),
      version: farmVersion,
      host: "bench",
      pid: process.pid,
    },
    source: laneSource(connection, lane, agent, slots, silentLog),
    link: { ask, announce: (statement) => announce(connection, statement), ping: () => connection.rtt() },
    handler,
    spool: memorySpool(),
    clock: systemClock,
    log: silentLog,
  });
  await worker.start();
  return {
    boot,
    async close() {
      await worker.stop();
      await connection.close();
    },
  };
}

/** Until the coordinator knows these boots and no others. @throws UnavailableError */
async function untilPresent(requester: Connection, opened: readonly OpenAgent[]): Promise<void> {
  const present = await poll(systemClock, patience, async () => {
    const answer = await askFor(requester, { v: 1, kind: "agents" }, "agents");
    const boots = answer.agents.filter((agent) => agent.online).map((agent) => agent.announcement.boot);
    return boots.length === opened.length && opened.every(({ boot }) => boots.includes(boot)) ? true : undefined;
  });
  if (present !== true) throw new UnavailableError("no-agents", "the coordinator does not see the agents");
}

const capabilities: CompileCapabilities = {
  esphomeVersions: ["2026.10.0"],
  makesEnvironments: false,
  pythons: [],
  cpus: 1,
  memoryBytes: 1,
  warm: [],
};

/** A manifest as an ESPHome build leaves it; nobody looks at what it names. */
const manifest: ArtifactManifest = {
  v: 1,
  tool: { name: "esphome", version: "2026.10.0" },
  platform: "esp32",
  images: [{ role: "ota", name: "firmware.ota.bin", digest, bytes: 500_000 }],
  esphome: {
    name: "device",
    configHash: "1a2b3c4d",
    buildTime: 1,
    buildTimeStr: "2026-01-01 00:00:00 +0000",
    esphomeVersion: "2026.10.0",
  },
};

function requestOf(number: number): ChainRequest {
  const configuration = Configuration.parse(`device ${number}`);
  const host = `device-${number}.local`;
  const id = chainIdFrom(Date.now(), randomBytes(6));
  return {
    id,
    kind: "install",
    configuration,
    // Each of them another build, also in the next run: equal ones would be built once.
    build: { driver: "esphome", version: "2026.10.0", bundle: digest, entry: `${id}.yaml` },
    upload: { target: { kind: "ota", host, port: 3232, encrypted: false, name: `device-${number}` } },
  };
}

function* chunksOf(chains: readonly number[]): Iterable<readonly number[]> {
  for (let at = 0; at < chains.length; at += chainsPerRequestMax) yield chains.slice(at, at + chainsPerRequestMax);
}
