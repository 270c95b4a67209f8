/**
 * Users of the farm while it is mistreated: one a device who asks for installs and uploads, sometimes several times in a row,
 * and one who asks for all devices at once and calls things off. What they do is decided by the seed, when it happens by the
 * farm as well.
 */
import { randomBytes } from "node:crypto";
import { poll, systemClock } from "#actor/clock.ts";
import type { AdminAnswer, AdminRequest, ChainRequest } from "#protocol/admin.ts";
import { isFinished } from "#protocol/chain.ts";
import { isFarmError, UnavailableError } from "#protocol/errors.ts";
import { type ChainId, chainIdFrom, Configuration } from "#protocol/ids.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { objectStores } from "#protocol/names.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { ObjectStore } from "#bus/object-store.ts";
import type { Asked, Journal } from "#test/chaos/journal.ts";
import { esphomeVersion, type ImageIdentity, type NumberedImages } from "#test/chaos/numbered-images.ts";
import { SimulatedRandom } from "#test/simulation/simulated-random.ts";
import type { RealDevice } from "#test/support/real-device.ts";

/** After this a user gives up asking; a coordinator and its server can both be away for as long. */
const patienceMs = 60_000;
const askAgainMs = 300;
/** How long a user watches a request before the next one; a flash takes two seconds, a build a few more. */
const watchMsMax = 20_000;
const repeatChance = 0.15;
const watchChance = 0.7;
/** A request that is called off while its first steps are taken: the race of a cancel and a flash claim. */
const regretChance = 0.15;
const regretMsMax = 600;
/** Of what the meddler does; the rest are cancels. */
const bulkChance = 0.12;
/** Devices whose configurations are built as well; a tree for each of many devices would not get warm between two faults. */
const builtDevices = 2;
const installChance = 0.6;
/** Two cold builds at once, on a machine that does other things as well. */
const warmUpMsMax = 300_000;

export interface ChaosUserOptions {
  readonly url: string;
  readonly seed: number;
  readonly devices: readonly RealDevice[];
  readonly images: NumberedImages;
  readonly journal: Journal;
}

export class ChaosUser implements AsyncDisposable {
  /** Of the images that were given to the farm; those that it builds are found in its store. */
  readonly identities: ImageIdentity[] = [];
  readonly #options: ChaosUserOptions;
  readonly #connection: Connection;
  readonly #leaving = new AbortController();
  readonly #loops: Promise<void>[] = [];
  /** Newest last. */
  readonly #recent: ChainId[] = [];
  #number = 0;

  private constructor(options: ChaosUserOptions, connection: Connection) {
    this.#options = options;
    this.#connection = connection;
  }

  static async connect(options: ChaosUserOptions): Promise<ChaosUser> {
    return new ChaosUser(options, await connect(options.url, "chaos user"));
  }

  /** Builds what will be built again and again, so that the trees are warm. */
  async warmUp(): Promise<void> {
    const devices = this.#options.devices.slice(0, builtDevices);
    const chains = await this.#request(devices.map((device) => ({ device, kind: "install" })));
    if (!(await this.#watch(chains, warmUpMsMax))) throw new Error("the first builds do not end");
  }

  start(): void {
    const { seed, devices } = this.#options;
    const randomOf = (user: number) => new SimulatedRandom(seed * 100 + user);
    this.#loops.push(
      this.#meddle(randomOf(0)),
      ...devices.map((device, index) => this.#useDevice(device, randomOf(index + 1))),
    );
    // Whoever leaves hears of it.
    for (const loop of this.#loops) loop.catch(() => undefined);
  }

  /** Asks for nothing more; resolves when what was asked has been answered or given up. */
  async leave(): Promise<void> {
    this.#leaving.abort();
    await Promise.all(this.#loops);
  }

  /** One upload for each device. @returns their chains */
  async uploadToAll(): Promise<readonly ChainId[]> {
    return this.#request(this.#options.devices.map((device) => ({ device, kind: "upload" })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
    await this.#connection.close();
  }

  async #useDevice(device: RealDevice, random: SimulatedRandom): Promise<void> {
    const { signal } = this.#leaving;
    while (!signal.aborted) {
      const isRepeated = random.chance(repeatChance);
      let chains: readonly ChainId[] = [];
      for (let left = isRepeated ? random.between(2, 3) : 1; left > 0; left--) {
        chains = await this.#request([{ device, kind: this.#kindFor(device, random) }]);
        if (left > 1) await systemClock.pause(random.between(0, 1_500), signal);
      }
      if (random.chance(regretChance)) {
        await systemClock.pause(random.between(0, regretMsMax), signal);
        for (const chain of chains) await this.#cancel(chain);
      } else if (random.chance(watchChance)) await this.#watch(chains);
      await systemClock.pause(random.between(100, 1_500), signal);
    }
  }

  async #meddle(random: SimulatedRandom): Promise<void> {
    const { signal } = this.#leaving;
    while (await systemClock.pause(random.between(1_000, 6_000), signal)) {
      if (random.chance(bulkChance)) {
        await this.#request(this.#options.devices.map((device) => ({ device, kind: this.#kindFor(device, random) })));
        continue;
      }
      const chain = random.pick(this.#recent.slice(-6));
      const device = random.pick(this.#options.devices);
      if (chain === undefined) continue;
      const reference = random.pick([chain, chain, `${chain}.upload`, device.name]);
      await this.#cancel(reference);
    }
  }

  /** Once: whether a cancel that was not answered has happened is nobody's promise. */
  async #cancel(reference: string): Promise<void> {
    this.#options.journal.note("cancel", { reference });
    await this.#ask({ v: 1, kind: "cancel", of: { reference } }).catch((error: unknown) => {
      if (!isFarmError(error)) throw error;
    });
  }

  async #request(
    wanted: readonly { readonly device: RealDevice; readonly kind: Asked["kind"] }[],
  ): Promise<readonly ChainId[]> {
    const { journal } = this.#options;
    const asked = wanted.map(({ device, kind }) => ({
      chain: chainIdFrom(Date.now(), randomBytes(6)),
      number: ++this.#number,
      device,
      kind,
    }));
    const requests: ChainRequest[] = [];
    for (const { chain, number, device, kind } of asked) {
      const made = await this.#patiently(() => this.#prepare(chain, number, device, kind));
      if (made !== undefined) requests.push(made);
    }
    if (requests.length < asked.length) return [];
    journal.ask(asked.map(({ device, ...one }) => ({ ...one, device: device.name, isAccepted: false })));
    const ids = asked.map(({ chain }) => chain);
    this.#recent.push(...ids);
    const answer = await this.#patiently(() => this.#ask({ v: 1, kind: "submit", chains: requests }));
    if (answer === undefined) journal.unanswered += 1;
    return ids;
  }

  /** Stores what the request names. */
  async #prepare(id: ChainId, number: number, device: RealDevice, kind: Asked["kind"]): Promise<ChainRequest> {
    const { images } = this.#options;
    const configuration = Configuration.parse(device.name);
    const target = targetOf(device);
    if (kind === "upload") {
      const { bytes, manifest, identity } = images.forUpload(device.name, number);
      await new ObjectStore(this.#connection, objectStores.artifacts).put(identity.digest, bytes);
      this.identities.push(identity);
      return { id, kind, configuration, upload: { target, manifest } };
    }
    const { bytes, digest, entry } = images.forInstall(device.name, number);
    await new ObjectStore(this.#connection, objectStores.bundles).put(digest, bytes);
    const build = { driver: "esphome" as const, version: esphomeVersion, bundle: digest, entry };
    return { id, kind, configuration, build, upload: { target } };
  }

  /** Again while the farm is away. @returns undefined when it was away for too long */
  async #patiently<T>(work: () => Promise<T>): Promise<T | undefined> {
    return poll(systemClock, { everyMs: askAgainMs, withinMs: patienceMs }, async () => {
      try {
        return await work();
      } catch (error) {
        if (!isFarmError(error)) throw error;
        return undefined;
      }
    });
  }

  /** Once. @throws UnavailableError when nobody answers, or not now */
  async #ask(request: AdminRequest): Promise<AdminAnswer> {
    const answer = await askAdmin(this.#connection, request);
    this.#options.journal.answered(answer);
    if (answer.kind !== "refused" || (answer.code !== "busy" && answer.code !== "unavailable")) return answer;
    throw new UnavailableError(answer.code, answer.message);
  }

  #kindFor(device: RealDevice, random: SimulatedRandom): Asked["kind"] {
    const isBuilt = this.#options.devices.indexOf(device) < builtDevices;
    return isBuilt && random.chance(installChance) ? "install" : "upload";
  }

  /** Until the chains have ended, for a while. @returns whether they have */
  async #watch(only: readonly ChainId[], withinMs = watchMsMax): Promise<boolean> {
    const limits = { everyMs: 400, withinMs, signal: this.#leaving.signal };
    const seen = await poll(systemClock, limits, async () => {
      const answer = await askAdmin(this.#connection, { v: 1, kind: "chains", ended: 0, only: [...only] }).catch(
        () => undefined,
      );
      if (answer?.kind !== "chains") return undefined;
      return answer.live.every(({ chain }) => isFinished(chain)) ? true : undefined;
    });
    return seen === true;
  }
}

function targetOf(device: RealDevice): OtaTarget {
  return {
    kind: "ota",
    host: "127.0.0.1",
    port: device.proxyPort,
    encrypted: false,
    api: { port: device.apiPort },
    name: device.name,
  };
}
