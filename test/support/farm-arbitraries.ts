/**
 * Random lives of a farm for properties of the core. An arbitrary makes numbers only; a story turns each of them into an event
 * that fits the farm at that moment (the claim of a job that is dispatched) or does not (of another attempt, boot or agent).
 */
import * as fc from "fast-check";
import type { ChainRequest } from "#protocol/admin.ts";
import type { HeldJob } from "#protocol/agent.ts";
import { jobsOf } from "#protocol/chain.ts";
import { type ChainId, JobName } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import type { CancelTarget, FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import {
  agentNamed,
  bootNumber,
  buildRequest,
  built,
  chainNumber,
  configurationNamed,
  failedWith,
  failures,
  flashed,
  installRequest,
  renameRequest,
  startAt,
  statementOf,
  successes,
  uploadRequest,
} from "#test/support/farm-builders.ts";

const kinds = [
  "submit",
  "cancel",
  "clean",
  "reset",
  "resolve",
  "rollout",
  "seen",
  "claim",
  "flash-claim",
  "report",
  "announce",
  "restart",
  "vanish",
  "archive",
  "time",
] as const;

/** One happening, in numbers that mean something only against a farm. */
export interface Happening {
  readonly kind: (typeof kinds)[number];
  readonly pick: number;
  readonly other: number;
  /** About one in six names the wrong attempt, agent, boot or chain. */
  readonly isNonsense: boolean;
  readonly passMs: number;
}

export const happening: fc.Arbitrary<Happening> = fc.record({
  // What agents say comes more often than what users ask, or no chain would live long enough to flash.
  kind: fc.constantFrom(
    ...kinds,
    "submit",
    "claim",
    "claim",
    "claim",
    "flash-claim",
    "flash-claim",
    "report",
    "report",
    "time",
  ),
  pick: fc.nat(100),
  other: fc.nat(100),
  isNonsense: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
  passMs: fc.constantFrom(0, 0, 10, 1_000, 5_000, 31_000, 140_000),
});

export const life: fc.Arbitrary<readonly Happening[]> = fc.array(happening, {
  minLength: 5,
  maxLength: 80,
  size: "max",
});

const agents: readonly { name: string; lane: Lane; slots: number }[] = [
  { name: "bench-1", lane: "compile", slots: 1 },
  { name: "bench-2", lane: "compile", slots: 2 },
  { name: "pi-1", lane: "upload", slots: 1 },
  { name: "pi-2", lane: "upload", slots: 2 },
];
/** A confirmation, a wave, a device that is waited for; each of them now and then. */
function withMore(request: ChainRequest, first: ChainId, index: number, chance: number): ChainRequest {
  const { upload } = request;
  if (upload === undefined) return request;
  const { target } = upload;
  const isAsked = chance % 2 === 0 && target.kind === "ota";
  const part = { id: first, wave: index + 1, failuresMax: chance % 2 };
  return {
    ...request,
    ...(chance % 3 === 0 ? { rollout: part } : {}),
    upload: {
      ...upload,
      ...(isAsked ? { target: { ...target, api: { port: 6053 } }, confirmAfterMs: 10_000 } : {}),
      ...(chance % 5 === 0 ? { timing: { isAwaited: true } } : {}),
    },
  };
}

const configurations = ["kitchen", "kitchen copy", "cellar"];
const hosts = ["10.0.0.1", "10.0.0.1", "10.0.0.2"];
const results: readonly JobResult[] = [
  built(),
  built(),
  flashed,
  flashed,
  { kind: "stopped" },
  ...Object.values(failures).map((failure) => failedWith(failure)),
];

export class FarmStory {
  at = startAt;
  #submitted = 0;
  #answerTo = 0;
  readonly #boots = new Map<string, number>();

  /** The event of a happening at this farm; time has gone on when it returns. */
  next(farm: Farm, { kind, pick, other, isNonsense, passMs }: Happening): FarmEvent {
    this.at += passMs;
    this.#answerTo += 1;
    const answerTo = this.#answerTo;
    const agent = agents[pick % agents.length]!;
    switch (kind) {
      case "submit":
        return { kind: "chains-submitted", chains: this.#requests(pick, other, isNonsense), answerTo };
      case "cancel":
        return { kind: "cancel-asked", of: this.#cancelTarget(farm, pick, other), answerTo };
      case "clean":
        return {
          kind: "clean-asked",
          id: this.#cleanId(isNonsense),
          configuration: this.#configuration(other),
          answerTo,
        };
      case "reset":
        // Mostly something smaller: a farm that is reset all the time does nothing else.
        return pick % 3 === 0
          ? { kind: "reset-asked", id: this.#cleanId(isNonsense), answerTo }
          : { kind: "clean-asked", id: this.#cleanId(isNonsense), configuration: this.#configuration(other), answerTo };
      case "resolve": {
        const unknown = [...farm.chains.values()].filter((chain) => chain.upload?.state === "unknown");
        const chain = isNonsense
          ? farm.chains.get(this.#anyChain(farm, pick))
          : unknown[pick % Math.max(1, unknown.length)];
        if (chain === undefined) return { kind: "time-passed" };
        return { kind: "unknown-resolved", chain, isRunning: other % 2 === 0, answerTo };
      }
      case "rollout": {
        const ids = [...farm.chains.values()].flatMap(({ rollout }) => rollout?.id ?? []);
        const id = ids[pick % Math.max(1, ids.length)] ?? chainNumber(pick);
        const action = (["pause", "resume", "resume", "abort"] as const)[other % 4]!;
        return { kind: "rollout-asked", id, action, answerTo };
      }
      case "seen":
        return { kind: "device-seen", names: [hosts[pick % hosts.length]!], agent: agentNamed(agent.name) };
      case "claim":
        return { kind: "job-claimed", ...this.#from(farm, pick, other, isNonsense), answerTo };
      case "flash-claim":
        return { kind: "flash-claimed", ...this.#from(farm, pick, other, isNonsense), answerTo };
      case "report": {
        const from = this.#from(farm, pick, other, isNonsense);
        const success = successes[from.job];
        return {
          kind: "job-reported",
          result: other % 2 === 0 ? success : results[pick % results.length]!,
          ...from,
          answerTo,
        };
      }
      case "announce":
      case "restart": {
        if (kind === "restart") this.#boots.set(agent.name, this.#bootOf(agent.name) + 1);
        return { kind: "agent-announced", announcement: this.#statement(farm, agent, kind, other, isNonsense) };
      }
      case "vanish":
        return { kind: "agent-vanished", agent: agentNamed(isNonsense ? "stranger" : agent.name) };
      case "archive":
        return { kind: "chain-archived", chain: this.#anyChain(farm, pick) };
      case "time":
        return { kind: "time-passed" };
    }
  }

  #cancelTarget(farm: Farm, pick: number, other: number): CancelTarget {
    const jobs = [undefined, ["upload" as const], ["compile" as const]][other % 3];
    const some = jobs === undefined ? {} : { jobs };
    if (pick % 11 === 0) return { kind: "all" };
    if (pick % 3 === 0) return { kind: "configuration", configuration: this.#configuration(other), ...some };
    return { kind: "chain", chain: this.#anyChain(farm, pick), ...some };
  }

  #configuration(other: number) {
    return configurationNamed(configurations[other % configurations.length]!);
  }

  /** As nonsense the one before, which is a request that is repeated. */
  #cleanId(isRepeated: boolean): ChainId {
    if (!isRepeated || this.#submitted === 0) this.#submitted += 1;
    return chainNumber(this.#submitted);
  }

  #bootOf(name: string): number {
    return this.#boots.get(name) ?? 1;
  }

  #requests(pick: number, other: number, isNonsense: boolean): ChainRequest[] {
    const size = (pick % 3) + 1;
    const first = this.#submitted + 1;
    return Array.from({ length: size }, (_, index) => {
      // A repeated request now and then.
      const isRepeated = isNonsense && this.#submitted > 0 && other % 2 === 0;
      if (!isRepeated) this.#submitted += 1;
      const number = isRepeated ? (other % this.#submitted) + 1 : this.#submitted;
      const which = (other + index) % configurations.length;
      const options = {
        configuration: configurations[which]!,
        host: hosts[which]!,
        // Of a rename only.
        renamed: configurations[(which + 1 + (pick % 2)) % configurations.length]!,
      };
      const make = [installRequest, installRequest, buildRequest, uploadRequest, renameRequest][(pick + index) % 5]!;
      const request = withMore(make(number, options), chainNumber(first), index, pick + other);
      return isNonsense && other % 5 === 1 ? { ...request, kind: "upload" } : request;
    });
  }

  #anyChain(farm: Farm, pick: number): ChainId {
    const ids = [...farm.chains.keys()];
    return ids[pick % Math.max(1, ids.length)] ?? chainNumber(pick);
  }

  /** Names the attempt in hand of some job, preferring jobs that somebody works on; or, as nonsense, something near it. */
  #from(farm: Farm, pick: number, other: number, isNonsense: boolean) {
    const all = [...farm.chains.values()].flatMap((chain) => jobsOf(chain).map((job) => ({ chain: chain.id, job })));
    const inHand = all.filter(({ job }) => isInHand(job.state));
    const from = inHand.length > 0 && !(isNonsense && other % 2 === 0) ? inHand : all;
    const found = from[pick % Math.max(1, from.length)];
    const agent = found?.job.assigned?.agent ?? agentNamed(agents[other % agents.length]!.name);
    const right = {
      agent,
      boot: found?.job.assigned?.boot ?? bootNumber(1),
      chain: found?.chain ?? chainNumber(pick),
      job: found?.job.name ?? JobName.options[pick % 2]!,
      attempt: Math.max(1, found?.job.attempt ?? 1),
    };
    if (!isNonsense) return right;
    const wrong = [
      { attempt: (other % 4) + 1 },
      { boot: bootNumber(other % 4) },
      { agent: agentNamed(agents[pick % agents.length]!.name) },
      { job: JobName.options[other % 2]! },
    ];
    return { ...right, ...wrong[other % wrong.length] };
  }

  #statement(
    farm: Farm,
    agent: (typeof agents)[number],
    kind: "announce" | "restart",
    other: number,
    isNonsense: boolean,
  ) {
    const inHand: HeldJob[] = [...farm.chains.values()].flatMap((chain) =>
      jobsOf(chain)
        .filter((job) => job.assigned?.agent === agent.name && isInHand(job.state))
        .map((job) => ({ chain: chain.id, job: job.name, attempt: job.attempt })),
    );
    const stray: HeldJob = { chain: chainNumber(other), job: agent.lane, attempt: (other % 3) + 1 };
    const holding = kind === "restart" ? [] : isNonsense ? [...inHand.slice(1), stray] : inHand;
    return statementOf(agent.name, agent.lane, {
      boot: this.#bootOf(agent.name),
      // A service that is being shut down takes nothing more.
      slots: isNonsense && other % 4 === 0 ? 0 : agent.slots,
      idleSince: this.at - other,
      warm: configurations.filter((_, index) => (other >> index) % 2 === 0),
      holding,
      makesEnvironments: true,
    });
  }
}
