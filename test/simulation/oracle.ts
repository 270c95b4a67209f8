/**
 * Judges the simulated farm by the devices' own memory, by the answers that were given, and by the committed records.
 *
 * 1. A device gets at most one flash session for one request.
 * 2. No two sessions overlap at a device.
 * 3. Nothing is flashed after its cancel was answered, after a newer request for one of its names was answered, or after its end.
 * 4. Only the artifact of a build that the records call succeeded is flashed.
 * 5. What was answered as accepted is in the live records or in the history from then on. A request of several chains is there
 *    whole or not at all.
 * 6. A job that succeeded, failed or was cancelled did so in truth: the device holds the image, or never took it.
 * 7. A terminal job never changes, except that a person settles what is unknown, as told; no step of a committed job is outside the
 *    table, and the farm keeps its invariants.
 * 8. A job ends with the result of its own attempt, or with that of an equal build, and an attempt runs once.
 * 9. When the faults stop, every chain ends.
 * 10. A coordinator that is killed, paused or cut off beside one that stands by is replaced within 10 s.
 * 11. What was in hand and is cancelled is dead, and no tree is taken away under a build that the records know of.
 * 12. A result is noted when the record has it, and before the next boot of its agent says anything.
 * 13. No device of a rollout is flashed before all of the waves before it have ended.
 */
import { isDeepStrictEqual } from "node:util";
import type { AdminAnswer } from "#protocol/admin.ts";
import { type Chain, configurationsOf, isFinished, jobOf, jobsOf } from "#protocol/chain.ts";
import { type ChainId, jobRef } from "#protocol/ids.ts";
import { type ConfirmJob, isTerminal, type Job, networkOf, type UploadJob } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import type { Dispatch } from "#protocol/messages.ts";
import { deviceKeys } from "#coordinator/core/conflicts.ts";
import { isPastNoReturn } from "#coordinator/core/cancel.ts";
import { type Built, manifestOf } from "#coordinator/core/chains.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { faultOfStep, isPersonsWord } from "#test/simulation/record-steps.ts";
import type { FlashSession, SimulatedDevice } from "#test/simulation/simulated-device.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import { type AttemptName, nameOfAttempt, type Watcher } from "#test/simulation/simulated-world.ts";
import { WorkWatch } from "#test/simulation/work-watch.ts";

export interface OracleOptions {
  readonly record: (id: ChainId) => Chain | undefined;
  /** Of live chains, in the order in which they were first written. */
  readonly records: () => Iterable<Chain>;
  readonly history: ReadonlyMap<string, Chain>;
  readonly devices: () => readonly SimulatedDevice[];
  readonly trace: (line: string) => void;
  /** False in tests that want a fault to be seen at the devices and not at the records. */
  readonly checksRecords: boolean;
}

export class Oracle implements Watcher {
  /** Sentences with the number of the promise; empty while all is well. */
  readonly violations: string[] = [];
  readonly accepted = new Set<ChainId>();
  readonly #options: OracleOptions;
  #mayBeOverbooked = false;
  readonly #together = new Map<ChainId, readonly ChainId[]>();
  readonly #stoppedUploads = new Set<ChainId>();
  readonly #results = new Map<string, JobResult>();
  readonly #begun = new Set<string>();
  readonly #work: WorkWatch;

  constructor(options: OracleOptions) {
    this.#options = options;
    this.#work = new WorkWatch(options.record, (promise, sentence) => this.#violate(promise, sentence));
  }

  decided(farm: Farm): void {
    if (!this.#options.checksRecords) return;
    for (const sentence of checkFarm(farm)) {
      // Of a group of records the first ones can be written alone. A slot may then be promised to a new job before the record
      // of the old one says that it has ended; its agent repeats that report, and nothing is flashed or built wrongly.
      if (!this.#mayBeOverbooked || !sentence.startsWith("6:")) this.#violate(7, sentence);
    }
  }

  commitFailed(): void {
    this.#mayBeOverbooked = true;
  }

  answered(answer: AdminAnswer, asked: readonly ChainId[]): void {
    if (answer.kind === "accepted") {
      for (const id of answer.chains) this.accepted.add(id);
      for (const id of answer.superseded) this.#stoppedUploads.add(id);
      for (const id of asked) {
        if (this.#find(id) === undefined) this.#violate(5, `${id} was accepted and is not in the records`);
        this.#stopOlder(id);
      }
    }
    for (const { chain, jobs, tooLate } of answer.kind === "cancelling" ? answer.chains : []) {
      if (jobs.length === 0 || tooLate.includes("upload")) continue;
      this.#options.trace(`cancel of ${chain} answered: ${jobs.join(", ")}`);
      this.#stoppedUploads.add(chain);
    }
  }

  settled(chain: ChainId, isRunning: boolean, answer: AdminAnswer): void {
    if (answer.kind !== "device-resolved") return;
    const state = this.#find(chain)?.upload?.state;
    const wanted = isRunning ? "succeeded" : "failed";
    if (state !== wanted) this.#violate(7, `a person said that ${chain}.upload ${wanted}, and it is ${state}`);
  }

  began(process: SimulatedProcess, dispatch: Dispatch): void {
    const name = nameOfAttempt(dispatch);
    this.#options.trace(`${process.name} begins ${name}`);
    if (this.#begun.has(name)) this.#violate(8, `${name} ran twice`);
    this.#begun.add(name);
    this.#work.began(process, dispatch);
  }

  ended(attempt: AttemptName): void {
    this.#work.ended(attempt);
  }

  kept(process: SimulatedProcess, attempt: AttemptName, result: JobResult): void {
    const { failure } = result as { failure?: { kind: string } };
    this.#options.trace(`${process.name} ends ${nameOfAttempt(attempt)}: ${result.kind} ${failure?.kind ?? ""}`);
    this.#results.set(nameOfAttempt(attempt), result);
    this.#work.kept(process, attempt);
  }

  noted(agent: string, attempt: AttemptName): void {
    this.#work.noted(agent, attempt);
  }

  stated(process: SimulatedProcess): void {
    this.#work.stated(process);
  }

  /** A device opens a flash session; called before it is in the device's memory. */
  opened(device: SimulatedDevice, session: FlashSession): void {
    const { chain, attempt, agent, build } = session;
    this.#options.trace(`${device.host}: ${agent} flashes ${chain}.upload.${attempt} (${session.fate})`);
    if (device.sessions.some((other) => other.chain === chain))
      this.#violate(1, `${device.host} is flashed again for ${chain}`);
    const other = device.sessions.find(({ isOpen }) => isOpen);
    if (other !== undefined)
      this.#violate(2, `${device.host} is flashed for ${chain} during the flash for ${other.chain}`);
    const earlier = this.#earlierWave(chain);
    if (earlier !== undefined) this.#violate(13, `${device.host} is flashed for ${chain} before ${earlier} has ended`);
    if (this.#stoppedUploads.has(chain))
      this.#violate(3, `${device.host} is flashed for ${chain}, which was answered as cancelled`);
    const record = this.#find(chain);
    const state = record?.upload?.state;
    if (state !== undefined && isTerminal(state))
      this.#violate(3, `${device.host} is flashed for ${chain}, which is ${state}`);
    const manifest = record === undefined ? undefined : manifestOf(record);
    const isBuilt = record?.compile === undefined || record.compile.state === "succeeded";
    if (!isBuilt || manifest?.esphome?.buildTimeStr !== build) {
      this.#violate(
        4,
        `${device.host} is flashed for ${chain} with ${build}, whose build is ${record?.compile?.state ?? "missing"}`,
      );
    }
  }

  /** A chain of an earlier wave of the same rollout that has not ended. */
  #earlierWave(id: ChainId): ChainId | undefined {
    const own = this.#find(id)?.rollout;
    if (own === undefined) return undefined;
    for (const other of this.#options.records()) {
      const { rollout } = other;
      if (rollout?.id === own.id && rollout.wave < own.wave && !isFinished(other)) return other.id;
    }
    return undefined;
  }

  /** A record was written; `after` is undefined for one that is removed. */
  written(id: ChainId, before: Chain | undefined, after: Chain | undefined): void {
    if (after === undefined) {
      const kept = this.#options.history.get(id);
      const isKept = kept !== undefined && kept.upload?.state === before?.upload?.state;
      if (before !== undefined && !(isFinished(before) && isKept))
        this.#violate(5, `${id} was removed before it was in the history`);
      return;
    }
    for (const job of jobsOf(after)) {
      const earlier = before === undefined ? undefined : jobOf(before, job.name);
      if (earlier !== undefined && earlier.state !== job.state) {
        this.#options.trace(`${jobRef(id, job.name)}: ${earlier.state} → ${job.state} (attempt ${job.attempt})`);
      }
      const fault = earlier === undefined ? undefined : faultOfStep(id, earlier, job);
      if (fault !== undefined) this.#violate(7, fault);
      const isGivenUp = job.earlier.length !== earlier?.earlier.length;
      if (job.state === "cancelled" && isInHand(earlier?.state) && !isGivenUp)
        this.#work.cancelled({ chain: id, job: job.name, attempt: job.attempt });
      if (isTerminal(job.state) && (earlier === undefined || !isTerminal(earlier.state))) this.#checkEnd(after, job);
    }
  }

  died(coordinator: string, error: unknown): void {
    this.#violate(7, `${coordinator} died of ${String(error)}`);
  }

  /** Nobody has taken over in time. */
  missed(sentence: string): void {
    this.#violate(10, sentence);
  }

  /** At the end of a run. */
  finish(): void {
    for (const id of this.accepted)
      if (this.#find(id) === undefined) this.#violate(5, `${id} was accepted and is lost`);
  }

  /** A user asks for these chains with one request. */
  asked(chains: readonly ChainId[]): void {
    for (const id of chains) this.#together.set(id, chains);
  }

  /** One write has landed. */
  landed(ids: Iterable<ChainId>): void {
    for (const id of ids) {
      const missing = this.#together.get(id)?.filter((other) => this.#find(other) === undefined) ?? [];
      if (missing.length > 0) this.#violate(5, `${id} was written without ${missing.join(", ")} of the same request`);
    }
  }

  /** After the faults have stopped and time enough has gone by. */
  finishCalm(openRequests: number, live: readonly ChainId[]): void {
    if (openRequests > 0) this.#violate(9, `${openRequests} requests were never answered`);
    for (const id of live) {
      const record = this.#options.record(id);
      const states =
        record === undefined
          ? []
          : jobsOf(record).map((job) => `${job.name} is ${job.state} at ${job.assigned?.agent ?? "nobody"}`);
      this.#violate(9, `${id} never ended: ${states.join(", ")}`);
    }
  }

  #checkEnd(chain: Chain, job: Job): void {
    // What a person has seen was so then; the device may have been flashed for another chain since.
    if (isPersonsWord(job)) return;
    const name = nameOfAttempt({ chain: chain.id, job: job.name, attempt: job.attempt });
    const { outcome } = job;
    if (outcome?.kind === "built" || outcome?.kind === "flashed") {
      const isReused = outcome.kind === "built" && outcome.reusedFrom !== undefined;
      const isTrue = isReused ? this.#hasBuilt(outcome) : isDeepStrictEqual(this.#results.get(name), outcome);
      if (!isTrue) {
        this.#violate(8, `${name} ended with a result that its attempt did not have`);
      }
    }
    if (job.name === "upload") this.#checkTruth(chain, job);
    if (job.name === "confirm") this.#checkConfirmed(chain, job);
  }

  /** Whether an attempt of the chain that a build was taken from had this very result. */
  #hasBuilt({ reusedFrom, manifest }: Built): boolean {
    for (const [name, result] of this.#results) {
      const isOfChain = name.startsWith(`${reusedFrom}.compile.`);
      if (isOfChain && result.kind === "built" && isDeepStrictEqual(result.manifest, manifest)) return true;
    }
    return false;
  }

  #checkTruth(chain: Chain, job: UploadJob): void {
    const device = this.#options.devices().find(({ host }) => deviceKeys(job.spec.target)[0]?.startsWith(`${host}:`));
    const build = manifestOf(chain)?.esphome?.buildTimeStr;
    if (device === undefined) return;
    const sessions = device.sessions.filter((session) => session.chain === chain.id);
    // It did run it, and was asked before it went back.
    const didRun = device.sessions.some(
      (session) => session.build === build && session.isTaken && session.fate === "rolls-back-later",
    );
    if (job.state === "succeeded" && device.installed !== build && !didRun) {
      this.#violate(6, `${chain.id}.upload succeeded, but ${device.host} holds ${device.installed}`);
    }
    if (job.state === "cancelled" && sessions.length > 0)
      this.#violate(6, `${chain.id}.upload was cancelled after its flash`);
    if (job.state === "failed" && sessions.some(({ isTaken, fate }) => isTaken && !fate.startsWith("rolls-back"))) {
      this.#violate(6, `${chain.id}.upload failed, but ${device.host} took its image`);
    }
    if (job.state !== "unknown" && sessions.some(({ isOpen }) => isOpen)) {
      this.#violate(6, `${chain.id}.upload is ${job.state} while ${device.host} is still being flashed for it`);
    }
  }

  /** No other image goes to a device while it is asked whether it still runs the one before. */
  #checkConfirmed(chain: Chain, { state, outcome }: ConfirmJob): void {
    const target = chain.upload?.spec.target;
    const host = target === undefined ? undefined : networkOf(target)?.host;
    const device = this.#options.devices().find((one) => one.host === host);
    const runs = device?.installed === manifestOf(chain)?.esphome?.buildTimeStr;
    if (state === "succeeded" && !runs)
      this.#violate(6, `${chain.id} is confirmed, but ${device?.host} holds ${device?.installed}`);
    const isBack = outcome?.kind === "failed" && outcome.failure.kind === "rolled-back";
    if (isBack && runs) this.#violate(6, `${chain.id} is said to be rolled back, but ${device?.host} runs it`);
  }

  /** By the names themselves, whatever the answer says to have superseded; a flash past its claim goes on. */
  #stopOlder(newer: ChainId): void {
    const record = this.#options.record(newer);
    if (record === undefined || record.clean !== undefined) return;
    const names = configurationsOf(record);
    for (const older of this.#options.records()) {
      if (older.id === newer) return;
      const { upload } = older;
      if (upload === undefined || isPastNoReturn(upload)) continue;
      if (configurationsOf(older).some((name) => names.includes(name))) this.#stoppedUploads.add(older.id);
    }
  }

  #find(id: ChainId): Chain | undefined {
    return this.#options.record(id) ?? this.#options.history.get(id);
  }

  #violate(promise: number, sentence: string): void {
    this.#options.trace(`VIOLATION ${promise}: ${sentence}`);
    this.violations.push(`${promise}: ${sentence}`);
  }
}
