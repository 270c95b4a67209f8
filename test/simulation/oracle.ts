/**
 * Judges the simulated farm by the devices' own memory, by the answers that were given, and by the committed records.
 *
 * 1. A device gets at most one flash session for one request.
 * 2. No two sessions overlap at a device.
 * 3. Nothing is flashed after its cancel was answered, or after it was answered as superseded.
 * 4. Only the artifact of a build that the records call succeeded is flashed.
 * 5. What was answered as accepted is in the live records or in the history from then on. A request of several chains is there
 *    whole or not at all.
 * 6. A job that succeeded, failed or was cancelled did so in truth: the device holds the image, or never took it.
 * 7. A terminal job never changes, no step of a committed job is outside the table, and the farm keeps its invariants.
 * 8. A job ends with the result of its own attempt, and an attempt runs once.
 * 9. When the faults stop, every chain ends.
 * 10. A coordinator that is killed, paused or cut off beside one that stands by is replaced within 10 s.
 */
import { isDeepStrictEqual } from "node:util";
import type { AdminAnswer } from "#protocol/admin.ts";
import { type Chain, isFinished, jobOf, jobsOf } from "#protocol/chain.ts";
import { type ChainId, type JobName, jobRef } from "#protocol/ids.ts";
import { isTerminal, type Job, nextStates, type UploadJob } from "#protocol/job.ts";
import type { JobResult } from "#protocol/job.ts";
import { deviceKeys } from "#coordinator/core/conflicts.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import type { FlashSession, SimulatedDevice } from "#test/simulation/simulated-device.ts";
import type { AttemptName, Watcher } from "#test/simulation/simulated-world.ts";

export interface OracleOptions {
  readonly record: (id: ChainId) => Chain | undefined;
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

  constructor(options: OracleOptions) {
    this.#options = options;
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
      }
    }
    for (const { chain, jobs, tooLate } of answer.kind === "cancelling" ? answer.chains : []) {
      if (jobs.length === 0 || tooLate.includes("upload")) continue;
      this.#options.trace(`cancel of ${chain} answered: ${jobs.join(", ")}`);
      this.#stoppedUploads.add(chain);
    }
  }

  began(agent: string, attempt: AttemptName): void {
    const name = nameOf(attempt);
    this.#options.trace(`${agent} begins ${name}`);
    if (this.#begun.has(name)) this.#violate(8, `${name} ran twice`);
    this.#begun.add(name);
  }

  ended(agent: string, attempt: AttemptName, result: JobResult): void {
    const { failure } = result as { failure?: { kind: string } };
    this.#options.trace(`${agent} ends ${nameOf(attempt)}: ${result.kind} ${failure?.kind ?? ""}`);
    this.#results.set(nameOf(attempt), result);
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
    if (this.#stoppedUploads.has(chain))
      this.#violate(3, `${device.host} is flashed for ${chain}, which was answered as cancelled`);
    const record = this.#find(chain);
    const manifest = record === undefined ? undefined : manifestOf(record);
    const isBuilt = record?.compile === undefined || record.compile.state === "succeeded";
    if (!isBuilt || manifest?.esphome?.buildTimeStr !== build) {
      this.#violate(
        4,
        `${device.host} is flashed for ${chain} with ${build}, whose build is ${record?.compile?.state ?? "missing"}`,
      );
    }
  }

  /** A record was written; `after` is undefined for one that is removed. */
  written(id: ChainId, before: Chain | undefined, after: Chain | undefined): void {
    if (after === undefined) {
      const isKept = this.#options.history.has(id);
      if (before !== undefined && !(isFinished(before) && isKept))
        this.#violate(5, `${id} was removed before it was in the history`);
      return;
    }
    for (const job of jobsOf(after)) {
      const earlier = before === undefined ? undefined : jobOf(before, job.name);
      if (earlier !== undefined && earlier.state !== job.state) {
        this.#options.trace(`${jobRef(id, job.name)}: ${earlier.state} → ${job.state} (attempt ${job.attempt})`);
      }
      this.#checkStep(id, earlier, job);
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

  #checkStep(id: ChainId, before: Job | undefined, after: Job): void {
    if (before === undefined) return;
    if (isTerminal(before.state) && !isDeepStrictEqual(before, after)) {
      this.#violate(7, `${jobRef(id, after.name)} was ${before.state} and changed`);
    }
    // One commit may hold several steps, so only what no path can do is wrong.
    if (before.state !== after.state && !isReachable(before.state, after.state)) {
      this.#violate(7, `${jobRef(id, after.name)} went from ${before.state} to ${after.state}`);
    }
  }

  #checkEnd(chain: Chain, job: Job): void {
    const name = nameOf({ chain: chain.id, job: job.name, attempt: job.attempt });
    const { outcome } = job;
    if (outcome?.kind === "built" || outcome?.kind === "flashed") {
      if (!isDeepStrictEqual(this.#results.get(name), outcome)) {
        this.#violate(8, `${name} ended with a result that its attempt did not have`);
      }
    }
    if (job.lane === "upload") this.#checkTruth(chain, job);
  }

  #checkTruth(chain: Chain, job: UploadJob): void {
    const device = this.#options.devices().find(({ host }) => deviceKeys(job.spec.target)[0]?.startsWith(`${host}:`));
    const build = manifestOf(chain)?.esphome?.buildTimeStr;
    if (device === undefined) return;
    const sessions = device.sessions.filter((session) => session.chain === chain.id);
    if (job.state === "succeeded" && device.installed !== build) {
      this.#violate(6, `${chain.id}.upload succeeded, but ${device.host} holds ${device.installed}`);
    }
    if (job.state === "cancelled" && sessions.length > 0)
      this.#violate(6, `${chain.id}.upload was cancelled after its flash`);
    if (job.state === "failed" && sessions.some(({ isTaken, fate }) => isTaken && fate !== "rolls-back")) {
      this.#violate(6, `${chain.id}.upload failed, but ${device.host} took its image`);
    }
    if (job.state !== "unknown" && sessions.some(({ isOpen }) => isOpen)) {
      this.#violate(6, `${chain.id}.upload is ${job.state} while ${device.host} is still being flashed for it`);
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

function nameOf({ chain, job, attempt }: { chain: ChainId; job: JobName; attempt: number }): string {
  return `${chain}.${job}.${attempt}`;
}

function isReachable(from: Job["state"], to: Job["state"], seen = new Set<Job["state"]>()): boolean {
  if (from === to) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return nextStates[from].some((next) => isReachable(next, to, seen));
}
