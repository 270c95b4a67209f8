/**
 * Carries out effects after their commit. It makes no decisions.
 *
 * 1. A dispatch or an archiving that fails is only noted; `impliedEffects` asks for it again at the next beat.
 * 2. A chain reaches the history before its live record may go.
 * 3. Archivings are gathered until `archive` is called: nobody waits for one, and many are one write.
 */
import type { DeviceRecord } from "#protocol/admin.ts";
import { type Chain, jobOf, withoutSecrets } from "#protocol/chain.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { configurationKey } from "#protocol/names.ts";
import type { CoordinatorPorts, Shelf } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import type { Answers } from "#coordinator/answers.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import type { FarmEffect } from "#coordinator/core/effects.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Memory } from "#coordinator/memory.ts";

type EffectPorts = Pick<CoordinatorPorts, "history" | "devices" | "dispatch" | "stop" | "prefetch">;

export class Interpreter {
  readonly history: Shelf<Chain>;
  readonly devices: Shelf<DeviceRecord>;
  readonly #ports: EffectPorts;
  readonly #memory: Pick<Memory, "learn">;
  readonly #answers: Answers;
  readonly #log: Log;
  readonly #onArchived: (chain: Chain) => void;
  #ended = new Map<ChainId, Chain>();
  #isArchiving = false;
  #hasFailed = false;

  constructor(
    ports: EffectPorts,
    memory: Pick<Memory, "learn">,
    answers: Answers,
    log: Log,
    onArchived: (chain: Chain) => void,
  ) {
    this.#ports = ports;
    this.#memory = memory;
    this.#answers = answers;
    this.#log = log;
    this.#onArchived = onArchived;
    this.history = ports.history;
    this.devices = ports.devices;
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
          });
          break;
        case "prefetch":
          this.#ports.prefetch(effect.agent, { v: 1, bundle: effect.bundle });
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
    const dispatch = chain === undefined ? undefined : dispatchOf(chain, effect.job, effect.attempt);
    if (dispatch === undefined) return;
    await this.#ports.dispatch(effect.agent, dispatch);
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
    const devices = new Map<string, DeviceRecord>();
    const formerNames: string[] = [];
    for (const chain of chains) {
      if (chain.renamedFrom !== undefined && chain.upload?.state === "succeeded")
        formerNames.push(configurationKey(chain.renamedFrom));
      const device = deviceRecordOf(chain);
      if (device !== undefined) devices.set(configurationKey(chain.configuration), device);
    }
    await this.history.putAll(new Map(chains.map((chain) => [chain.id, withoutSecrets(chain)])));
    await this.devices.putAll(devices);
    await this.devices.removeAll(formerNames);
    await this.#memory.learn(chains);
    for (const chain of chains) this.#onArchived(chain);
  }
}

/** The lane message of an assignment, or undefined when the record has moved on. */
function dispatchOf(chain: Chain, name: JobName, attempt: number): Dispatch | undefined {
  const job = jobOf(chain, name);
  if (job === undefined || job.state !== "dispatched" || job.attempt !== attempt) return undefined;
  const identity = { v: 1 as const, chain: chain.id, configuration: chain.configuration, attempt };
  if (job.name === "compile") return { ...identity, job: "compile", spec: job.spec };
  if (job.name === "clean") return { ...identity, job: "clean", trees: job.spec.trees };
  const manifest = manifestOf(chain);
  if (manifest === undefined) return undefined;
  return { ...identity, job: "upload", mode: job.mode, target: job.spec.target, manifest };
}

/** What the farm now knows of the chain's device; nothing for a chain that never came to its upload. */
function deviceRecordOf(chain: Chain): DeviceRecord | undefined {
  const upload = chain.upload;
  if (upload === undefined || upload.startedAt === undefined || upload.endedAt === undefined) return undefined;
  const { host, port } = upload.spec.target;
  const common = {
    v: 1 as const,
    configuration: chain.configuration,
    chain: chain.id,
    at: upload.endedAt,
    state: upload.state,
    address: `${host}:${port}`,
  };
  if (upload.outcome?.kind !== "flashed") return common;
  const { level, report } = upload.outcome;
  if (report === undefined) return { ...common, level };
  const { compilationTime: build, mac, esphomeVersion } = report;
  return { ...common, level, build, mac, esphomeVersion };
}
