/** What the users of one run ask for, and when: requests, renames, cleans, cancels, and meddling in the worst moment. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { type ChainId, chainIdFrom, Configuration, Digest } from "#protocol/ids.ts";
import { networkOf, OtaTarget } from "#protocol/job.ts";
import type { FaultPlan } from "#test/simulation/fault-plan.ts";
import type { SimulatedUser } from "#test/simulation/simulated-user.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

/** Ids tell the requests of a run apart by their time. */
const firstIdAt = Date.UTC(2026, 0, 1);
const bundle = Digest.parse("1".repeat(64));

export class SimulatedDemand {
  readonly #world: SimulatedWorld;
  readonly #user: SimulatedUser;
  readonly #plan: FaultPlan;
  /** Of the devices; several configurations may share one. */
  readonly #targets: readonly OtaTarget[];
  readonly #installedAt: (host: string) => string | undefined;
  #requests = 0;

  /** @param installedAt which build the device at a host runs */
  constructor(
    world: SimulatedWorld,
    user: SimulatedUser,
    plan: FaultPlan,
    hosts: readonly string[],
    installedAt: (host: string) => string | undefined,
  ) {
    this.#world = world;
    this.#user = user;
    this.#plan = plan;
    this.#installedAt = installedAt;
    const api = { port: 6053 };
    this.#targets = hosts.map((host) => OtaTarget.parse({ kind: "ota", host, port: 3232, name: host, api }));
  }

  /** Requests and cancels over the part of the run in which there are faults. */
  start(): void {
    const { random, time } = this.#world;
    const configurations = this.#targets.length + random.between(0, 1);
    for (let count = random.pick([2, 5, 10]); count > 0; count -= 1) {
      time.after(random.between(0, this.#plan.chaosMs), () => {
        if (random.chance(0.2)) return this.#user.clean(this.#nextId(), nameOf(random.between(0, configurations - 1)));
        if (random.chance(0.1)) return this.#user.clean(this.#nextId());
        if (random.chance(0.05)) return this.#user.cancelAll();
        if (random.chance(0.05)) return this.#user.cancelAll(nameOf(random.between(0, configurations - 1)));
        if (random.chance(0.15) && configurations > 1) return this.#user.submit([this.#makeRename(configurations)]);
        const size = Math.min(random.pick([1, 1, 1, 2, 3]), configurations);
        const first = random.between(0, configurations - 1);
        const chains = Array.from({ length: size }, (_, index) => this.#makeRequest((first + index) % configurations));
        this.#user.submit(random.chance(0.3) ? this.#inWaves(chains) : chains);
        for (const { id } of chains) {
          if (random.chance(0.25)) time.after(random.between(0, 20_000), () => this.#cancel(id));
        }
      });
    }
  }

  /** The flashes of a request one after the other; a person may stop that, and see it through after all. */
  #inWaves(chains: readonly ChainRequest[]): readonly ChainRequest[] {
    const { random, time } = this.#world;
    const [first] = chains;
    if (first === undefined) return chains;
    const { id } = first;
    const failuresMax = random.between(0, 2);
    if (random.chance(0.3)) time.after(random.between(0, 20_000), () => this.#user.changeRollout(id, "pause"));
    // A rollout that has stopped waits for a person: one comes in the end.
    time.after(this.#plan.chaosMs, () => this.#user.changeRollout(id, "resume"));
    time.after(this.#plan.chaosMs + 60_000, () => this.#user.changeRollout(id, "abort"));
    return chains.map((chain, index) => ({ ...chain, rollout: { id, wave: index + 1, failuresMax } }));
  }

  /** Some users cancel or ask anew in the very moment in which an upload starts, when it is hardest to be right. */
  reactTo(before: Chain | undefined, after: Chain | undefined): void {
    const { random, time } = this.#world;
    const isUnknown = after?.upload?.state === "unknown" && before?.upload?.state !== "unknown";
    if (isUnknown && random.chance(0.5)) this.#lookAtDevice(after);
    const hasStarted = after?.upload?.state === "running" && before?.upload?.state !== "running";
    if (!hasStarted || time.now > this.#plan.chaosMs || !random.chance(this.#plan.meddlingChance)) return;
    const { id, configuration } = after;
    const isCancel = random.chance(0.6);
    time.after(random.between(0, 3_000), () => {
      if (isCancel) this.#cancel(id);
      else this.#user.submit([this.#makeRequest(Number(configuration.split(" ")[1]))]);
    });
  }

  /** Of two configurations that there are, so that each of the names is asked for by others as well. */
  #makeRename(configurations: number): ChainRequest {
    const from = this.#world.random.between(0, configurations - 1);
    const to = (from + 1) % configurations;
    const { id, build, upload } = this.#makeRequest(to, "install");
    return {
      id,
      kind: "rename",
      configuration: nameOf(to),
      renamedFrom: nameOf(from),
      ...(build === undefined ? {} : { build }),
      ...(upload === undefined ? {} : { upload }),
    };
  }

  /** A person looks at the device of an upload of which nobody knows how it ended, and says what is there. */
  #lookAtDevice({ id, upload, compile }: Chain): void {
    const { random, time } = this.#world;
    const built = compile?.outcome;
    const manifest = upload?.spec.manifest ?? (built?.kind === "built" ? built.manifest : undefined);
    // At once, when the chain is just on its way to the history, or later.
    time.after(random.chance(0.5) ? random.between(0, 800) : random.between(1_000, 30_000), () => {
      const found = this.#installedAt(upload === undefined ? "" : (networkOf(upload.spec.target)?.host ?? ""));
      this.#user.resolve(id, found === manifest?.esphome?.buildTimeStr);
    });
  }

  #cancel(id: ChainId): void {
    this.#user.cancel(id, this.#world.random.pick([undefined, undefined, "upload", "compile"]));
  }

  #nextId(): ChainId {
    // A clean makes a chain an agent, with ids from this one on.
    this.#requests += 10;
    return chainIdFrom(firstIdAt + this.#requests, new Uint8Array(6));
  }

  #makeRequest(configuration: number, given?: "install"): ChainRequest {
    const id = this.#nextId();
    const kind = given ?? this.#world.random.pick(["install", "install", "install", "build", "upload"] as const);
    const target = this.#targets[configuration % this.#targets.length]!;
    const common = { id, kind, configuration: nameOf(configuration) };
    // Equal requests are built once.
    const entry = this.#world.random.chance(0.2) ? `${configuration}.yaml` : `${id}.yaml`;
    const build = { driver: "esphome" as const, version: "2026.10.0", bundle, entry };
    if (kind === "build") return { ...common, build };
    // Longer than a device lives that goes back to the build before (`simulated-device.ts`).
    const confirmAfterMs = this.#world.random.pick([undefined, 60_000]);
    const confirm = confirmAfterMs === undefined ? {} : { confirmAfterMs };
    if (kind === "install") return { ...common, build, upload: { target, ...confirm } };
    return { ...common, upload: { target, ...confirm, manifest: manifestGivenFor(id, target.name) } };
  }
}

function nameOf(configuration: number): Configuration {
  return Configuration.parse(`configuration ${configuration}`);
}

function manifestGivenFor(id: ChainId, name: string) {
  const esphome = {
    name,
    configHash: "1",
    buildTime: 1,
    buildTimeStr: `given for ${id}`,
    esphomeVersion: "2026.10.0",
  };
  return {
    v: 1 as const,
    tool: { name: "esphome", version: "2026.10.0" },
    platform: "esp32",
    images: [{ role: "ota" as const, name: "firmware.ota.bin", digest: bundle, bytes: 1_000 }],
    esphome,
  };
}
