/**
 * Carries out effects after their commit. It makes no decisions.
 *
 * 1. A dispatch or an archiving that fails is only noted; `impliedEffects` asks for it again at the next beat.
 * 2. A chain reaches the history before its live record may go.
 * 3. Archivings are gathered until `archive` is called: nobody waits for one, and many are one write.
 */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { type Chain, jobOf, withoutSecrets } from "#protocol/chain.ts";
import type { AgentId, ChainId, JobName } from "#protocol/ids.ts";
import type { Dispatch, PrefetchHint } from "#protocol/messages.ts";
import { networkOf } from "#protocol/job.ts";
import type { BuilderWord } from "#protocol/provenance.ts";
import type { CoordinatorPorts, Shelf } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import type { Answers } from "#coordinator/answers.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import { withKnownMac } from "#coordinator/core/device-records.ts";
import type { FarmEffect } from "#coordinator/core/effects.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Memory } from "#coordinator/memory.ts";

type EffectPorts = Pick<CoordinatorPorts, "history" | "dispatch" | "stop" | "prefetch">;

/** Gives a job to the agent that it is for, so that only that one reads its secrets. @throws UnavailableError `not-paired` */
export type Address = (agent: AgentId, dispatch: Dispatch) => Dispatch;

/** Hears of effects that have been carried out. */
export interface EffectListener {
  archived(chain: Chain): void;
  hinted(agent: AgentId, hint: PrefetchHint): void;
}

/** What the farm says of an artifact's builder to whoever flashes it; undefined in an open farm. */
export type BuilderOf = (manifest: ArtifactManifest, chain: ChainId, attempt: number) => BuilderWord | undefined;

export interface InterpreterParts {
  readonly listener: EffectListener;
  readonly address: Address;
  readonly builderOf: BuilderOf;
}

export class Interpreter {
  readonly history: Shelf<Chain>;
  readonly #ports: EffectPorts;
  readonly #memory: Pick<Memory, "learn">;
  readonly #answers: Answers;
  readonly #builderOf: BuilderOf;
  readonly #log: Log;
  readonly #listener: EffectListener;
  readonly #address: Address;
  #ended = new Map<ChainId, Chain>();
  #isArchiving = false;
  #hasFailed = false;

  constructor(
    ports: EffectPorts,
    memory: Pick<Memory, "learn">,
    answers: Answers,
    log: Log,
    { listener, address, builderOf }: InterpreterParts,
  ) {
    this.#address = address;
    this.#ports = ports;
    this.#builderOf = builderOf;
    this.#memory = memory;
    this.#answers = answers;
    this.#log = log;
    this.#listener = listener;
    this.history = ports.history;
  }

  /** True once after an effect could not be carried out. */
  takeFailure(): boolean {
    const failed = this.#hasFailed;
    this.#hasFailed = false;
    return failed;
  }

  run(farm: Farm, effects: readonly FarmEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case "answer":
          this.#answers.answer(effect.to, effect.body);
          break;
        case "dispatch":
          this.#attempt(this.#dispatch(farm, effect), effect.kind);
          break;
        case "stop":
          this.#ports.stop(effect.agent, {
            v: 1,
            chain: effect.chain,
            job: effect.job,
            attempt: effect.attempt,
            ...(effect.isForced === true ? { isForced: true } : {}),
          });
          break;
        case "prefetch":
          this.#ports.prefetch(effect.agent, effect.hint);
          this.#listener.hinted(effect.agent, effect.hint);
          break;
        case "archive":
          this.#gather(farm.chains.get(effect.chain));
          break;
      }
    }
  }

  #attempt(work: Promise<void>, effect: FarmEffect["kind"]): void {
    work.catch((error: unknown) => {
      this.#hasFailed = true;
      this.#log.warn({ err: error, effect }, "an effect could not be carried out and is tried again");
    });
  }

  async #dispatch(farm: Farm, effect: Extract<FarmEffect, { kind: "dispatch" }>): Promise<void> {
    const chain = farm.chains.get(effect.chain);
    const known = chain === undefined ? undefined : farm.knowledge.devices.get(chain.configuration);
    const dispatch =
      chain === undefined ? undefined : dispatchOf(chain, effect.job, effect.attempt, known, this.#builderOf);
    if (dispatch === undefined) return;
    await this.#ports.dispatch(effect.agent, this.#address(effect.agent, dispatch));
  }

  #gather(chain: Chain | undefined): void {
    if (chain !== undefined) this.#ended.set(chain.id, chain);
  }

  /** Called at each beat: takes what has gathered to the history, unless the last such work is not done yet. */
  archive(): void {
    if (this.#isArchiving || this.#ended.size === 0) return;
    const chains = [...this.#ended.values()];
    this.#ended = new Map();
    this.#isArchiving = true;
    this.#attempt(
      this.#archiveAll(chains).finally(() => (this.#isArchiving = false)),
      "archive",
    );
  }

  async #archiveAll(chains: readonly Chain[]): Promise<void> {
    const writes = [
      this.history.putAll(new Map(chains.map((chain) => [chain.id, withoutSecrets(chain)]))),
      this.#memory.learn(chains),
    ];
    // Both have ended before anything else is archived: a late write would put an old record over a newer one.
    await Promise.allSettled(writes);
    await Promise.all(writes);
    for (const chain of chains) this.#listener.archived(chain);
  }
}

/** The lane message of an assignment, or undefined when the record has moved on. */
function dispatchOf(
  chain: Chain,
  name: JobName,
  attempt: number,
  known: DeviceRecord | undefined,
  builderOf: BuilderOf,
): Dispatch | undefined {
  const job = jobOf(chain, name);
  if (job === undefined || job.state !== "dispatched" || job.attempt !== attempt) return undefined;
  const identity = { v: 1 as const, chain: chain.id, configuration: chain.configuration, attempt };
  if (job.name === "compile") return { ...identity, job: "compile", spec: job.spec };
  if (job.name === "clean") return { ...identity, job: "clean", trees: job.spec.trees };
  const manifest = manifestOf(chain);
  if (manifest === undefined || chain.upload === undefined) return undefined;
  const target = withKnownMac(chain.upload.spec.target, known);
  if (job.name === "confirm") {
    const network = networkOf(target);
    return network === undefined ? undefined : { ...identity, job: "confirm", target: network, manifest };
  }
  const { mayDowngrade, part } = job.spec;
  const builder = job.mode === "flash" ? builderOf(manifest, chain.id, attempt) : undefined;
  return {
    ...identity,
    job: "upload",
    mode: job.mode,
    target,
    manifest,
    ...(mayDowngrade === undefined ? {} : { mayDowngrade }),
    ...(part === undefined ? {} : { part }),
    ...(builder === undefined ? {} : { builder }),
  };
}
