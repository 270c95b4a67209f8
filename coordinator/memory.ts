/**
 * Keeps what the core knows beside the records (`core/knowledge.ts`): in memory for its decisions, in buckets for the next start.
 *
 * 1. What a person has said (drained agents, devices on hold) is in its bucket before it counts.
 * 2. What is learned is learned from chains that have ended, when they go to the history. Learning one twice does little harm.
 * 3. Builds of a configuration whose trees were taken away are forgotten before the record that says so has left the farm; and so is
 *    a build whose image was not in the store as it was built, or of whose builder the farm does not know any more.
 * 4. What is learned and what is forgotten take turns, and that a device was forgotten is noted first: it does not come back with a
 *    chain that was under way or was just being learned from.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import { digestOf } from "#actor/digest.ts";
import type { Chain } from "#protocol/chain.ts";
import type { Failure } from "#protocol/failure.ts";
import type { AgentId, Configuration } from "#protocol/ids.ts";
import { configurationKey, presenceKey } from "#protocol/names.ts";
import type { BuildRecord, DeviceNote, DurationRecord } from "#protocol/records.ts";
import { blocking, unblocking } from "#coordinator/core/blocked-builds.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import { devicesAfter } from "#coordinator/core/device-records.ts";
import { learnFrom } from "#coordinator/core/durations.ts";
import { type Knowledge, noKnowledge } from "#coordinator/core/knowledge.ts";
import { buildRecordOf } from "#coordinator/core/reuse.ts";

type MemoryPorts = Pick<CoordinatorPorts, "agents" | "notes" | "devices" | "durations" | "builds" | "identity">;

export class Memory {
  readonly #ports: MemoryPorts;
  readonly #clock: Clock;
  #knowledge: Knowledge = noKnowledge;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ports: MemoryPorts, clock: Clock) {
    this.#ports = ports;
    this.#clock = clock;
  }

  get knowledge(): Knowledge {
    return this.#knowledge;
  }

  /** @throws UnavailableError */
  async load(): Promise<void> {
    const [agents, notes, devices, durations, builds] = await Promise.all([
      this.#ports.agents.all(),
      this.#ports.notes.all(),
      this.#ports.devices.all(),
      this.#ports.durations.all(),
      this.#ports.builds.all(),
    ]);
    this.#knowledge = {
      ...this.#knowledge,
      notes: new Map(notes.map((note) => [note.configuration, note])),
      devices: new Map(devices.map((record) => [record.configuration, record])),
      drained: new Set(agents.filter(({ isDrained }) => isDrained).map(({ agent }) => agent)),
      durations: new Map(durations.map((record) => [record.configuration, record])),
      builds: new Map(builds.filter((record) => this.#isUsable(record)).map((record) => [record.key, record])),
    };
  }

  /** A build of an open farm, or of an older version, that nobody has signed is flashed by nobody who signs in. */
  #isUsable({ manifest }: BuildRecord): boolean {
    return this.#ports.identity === undefined || manifest.provenance !== undefined;
  }

  /** Invariant 1. @throws UnavailableError */
  async setDrained(agent: AgentId, isDrained: boolean): Promise<void> {
    const record = { v: 1 as const, agent, isDrained, at: this.#clock.now() };
    await this.#ports.agents.putAll(new Map([[presenceKey(agent), record]]));
    const drained = new Set(this.#knowledge.drained);
    if (isDrained) drained.add(agent);
    else drained.delete(agent);
    this.#knowledge = { ...this.#knowledge, drained };
  }

  /** Invariant 1. @throws UnavailableError */
  setHeld(configuration: Configuration, isHeld: boolean, reason?: string): Promise<DeviceNote> {
    return this.#inTurn(() => {
      const { forgottenAt } = this.#knowledge.notes.get(configuration) ?? {};
      const why = reason === undefined ? {} : { reason };
      const forgotten = forgottenAt === undefined ? {} : { forgottenAt };
      return this.#note({ v: 1, configuration, at: this.#clock.now(), isHeld, ...why, ...forgotten });
    });
  }

  async #note(note: DeviceNote): Promise<DeviceNote> {
    const { configuration } = note;
    await this.#ports.notes.putAll(new Map([[configurationKey(configuration), note]]));
    this.#knowledge = { ...this.#knowledge, notes: merged(this.#knowledge.notes, new Map([[configuration, note]])) };
    return note;
  }

  /** The next device of this name may be another one. @returns whether one was known. @throws UnavailableError */
  forgetDevice(configuration: Configuration): Promise<boolean> {
    return this.#inTurn(() => this.#forgetDevice(configuration));
  }

  /** Invariant 4. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #forgetDevice(configuration: Configuration): Promise<boolean> {
    const { devices, notes } = this.#knowledge;
    const wasKnown = devices.has(configuration);
    const at = this.#clock.now();
    const said = notes.get(configuration) ?? { v: 1, configuration, at, isHeld: false };
    await this.#note({ ...said, forgottenAt: at });
    await this.#ports.devices.removeAll([configurationKey(configuration)]);
    this.#forgetDevices(new Set([configuration]));
    return wasKnown;
  }

  #forgetDevices(configurations: ReadonlySet<Configuration>): void {
    if (configurations.size === 0) return;
    const devices = new Map(this.#knowledge.devices);
    for (const configuration of configurations) devices.delete(configuration);
    this.#knowledge = { ...this.#knowledge, devices };
  }

  /** Which agents hear which devices; as it is now, and nowhere else. */
  setReach(reach: Knowledge["reach"]): void {
    this.#knowledge = { ...this.#knowledge, reach };
  }

  /** Invariants 2 and 3; chains in the order of their ends. @throws UnavailableError */
  learn(chains: readonly Chain[]): Promise<void> {
    return this.#inTurn(() => this.#learn(chains));
  }

  async #learn(chains: readonly Chain[]): Promise<void> {
    const durations = new Map<Configuration, DurationRecord>();
    const builds = new Map<string, BuildRecord>();
    for (const agent of this.#knowledge.blocked.agents) {
      this.#knowledge = { ...this.#knowledge, blocked: blocking(this.#knowledge.blocked, agent, chains) };
    }
    const devices = devicesAfter(this.#knowledge, chains);
    const forgotten = new Set<string>();
    for (const chain of chains) {
      const { configuration } = chain;
      const learned = learnFrom(durations.get(configuration) ?? this.#knowledge.durations.get(configuration), chain);
      if (learned !== undefined) durations.set(configuration, learned);
      const build = buildRecordOf(chain);
      if (build !== undefined) {
        builds.set(build.key, build);
        forgotten.delete(build.key);
      }
      const isGone = whatIsGone(chain);
      if (isGone === undefined) continue;
      for (const [key, record] of [...this.#knowledge.builds, ...builds]) {
        if (!isGone(record)) continue;
        builds.delete(key);
        forgotten.add(key);
      }
    }
    await this.#forget(forgotten);
    await Promise.all([
      this.#ports.devices.putAll(byKey(devices.changed, configurationKey)),
      this.#ports.durations.putAll(byKey(durations, configurationKey)),
      this.#ports.builds.putAll(byKey(builds, buildRecordKey)),
    ]);
    await this.#ports.devices.removeAll([...devices.gone].map(configurationKey));
    this.#forgetDevices(devices.gone);
    this.#knowledge = {
      ...this.#knowledge,
      devices: merged(this.#knowledge.devices, devices.changed),
      durations: merged(this.#knowledge.durations, durations),
      builds: merged(this.#knowledge.builds, builds),
    };
  }

  /** Forgets builds from before an instant (ms since 1970). @returns how many. @throws UnavailableError */
  async forgetBuilds(before: number): Promise<number> {
    const old = [...this.#knowledge.builds].filter(([, { builtAt }]) => builtAt < before).map(([key]) => key);
    await this.#forget(new Set(old));
    return old.length;
  }

  /** Nothing that an agent has built, of these chains or from now on, is flashed or used again. @throws UnavailableError */
  async block(agent: AgentId, chains: readonly Chain[]): Promise<void> {
    this.#knowledge = { ...this.#knowledge, blocked: blocking(this.#knowledge.blocked, agent, chains) };
    const keys = [...this.#knowledge.builds].filter(([, build]) => build.agent === agent).map(([key]) => key);
    await this.#forget(new Set(keys));
  }

  unblock(agent: AgentId): void {
    this.#knowledge = { ...this.#knowledge, blocked: unblocking(this.#knowledge.blocked, agent) };
  }

  async #forget(keys: ReadonlySet<string>): Promise<void> {
    if (keys.size === 0) return;
    const builds = new Map([...this.#knowledge.builds].filter(([key]) => !keys.has(key)));
    this.#knowledge = { ...this.#knowledge, builds };
    await this.#ports.builds.removeAll([...keys].map(buildRecordKey));
  }
}

const damages: ReadonlySet<Failure["kind"]> = new Set(["artifact-mismatch", "provenance-refused"]);

/** Invariant 3: which builds a chain has made useless; undefined when it cannot have made any so. */
function whatIsGone(chain: Chain): ((build: BuildRecord) => boolean) | undefined {
  const { kind, configuration, clean, upload } = chain;
  if (clean !== undefined) return (build) => kind === "reset" || build.configuration === configuration;
  const isDamaged = upload?.outcome?.kind === "failed" && damages.has(upload.outcome.failure.kind);
  const digests = new Set(isDamaged ? manifestOf(chain)?.images.map(({ digest }) => digest) : []);
  return digests.size === 0 ? undefined : ({ manifest }) => manifest.images.some(({ digest }) => digests.has(digest));
}

/** A build key is text of any length and kind. */
function buildRecordKey(key: string): string {
  return digestOf(new TextEncoder().encode(key));
}

function byKey<K, V>(values: ReadonlyMap<K, V>, keyOf: (key: K) => string): ReadonlyMap<string, V> {
  return new Map([...values].map(([key, value]) => [keyOf(key), value]));
}

function merged<K, V>(old: ReadonlyMap<K, V>, fresh: ReadonlyMap<K, V>): ReadonlyMap<K, V> {
  return fresh.size === 0 ? old : new Map([...old, ...fresh]);
}
