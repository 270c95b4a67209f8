/**
 * Who may be an agent of this farm, and with which keys. An open farm, which has no identity, knows nobody and lets everybody in.
 *
 * 1. A record is in its bucket before it counts, and before a token is given out for it.
 * 2. A revoked agent stays revoked: its name comes back for nobody.
 * 3. Changes take turns.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { AdminAnswer } from "#protocol/admin.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { tokenMs } from "#protocol/limits.ts";
import { presenceKey } from "#protocol/names.ts";
import type { AgentIdentity, PairedAgent, SealKey } from "#protocol/pairing.ts";

type RegistryPorts = Pick<CoordinatorPorts, "paired" | "identity">;
type Refusal = Extract<AdminAnswer, { readonly kind: "refused" }>;

export class Registry {
  readonly #ports: RegistryPorts;
  readonly #clock: Clock;
  readonly #records = new Map<AgentId, PairedAgent>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ports: RegistryPorts, clock: Clock) {
    this.#ports = ports;
    this.#clock = clock;
  }

  /** Called when a coordinator begins to lead. @throws UnavailableError */
  async load(): Promise<void> {
    const records = await this.#ports.paired.all();
    this.#records.clear();
    for (const record of records) this.#records.set(record.agent, record);
  }

  /** Where a paired agent works. */
  laneOf(agent: AgentId): Lane | undefined {
    return this.#paired(agent)?.lane;
  }

  /** To what its secrets are sealed. */
  sealKeyOf(agent: AgentId): SealKey | undefined {
    return this.#paired(agent)?.seal;
  }

  /** Whether an agent may work on a lane. */
  isPaired(agent: AgentId, lane: Lane): boolean {
    return this.#ports.identity === undefined || this.laneOf(agent) === lane;
  }

  #paired(agent: AgentId): PairedAgent | undefined {
    const record = this.#records.get(agent);
    return record?.state === "paired" ? record : undefined;
  }

  /** Pairs an agent, or gives a paired one its new keys, and signs it in. @throws UnavailableError */
  enrol({ agent, lane, user, seal, host }: AgentIdentity): Promise<AdminAnswer> {
    return this.#inTurn(async () => {
      const { identity } = this.#ports;
      if (identity === undefined) return openFarm;
      const before = this.#records.get(agent);
      const refusal = refusalOf(before, agent, lane);
      if (refusal !== undefined) return refusal;
      const now = this.#clock.now();
      const expiresAt = now + tokenMs;
      const former = formerUsers(before, user, now);
      const record: PairedAgent = {
        v: 1,
        agent,
        lane,
        user,
        seal,
        host,
        pairedAt: now,
        by: "admin",
        state: "paired",
        expiresAt,
        ...(former.length === 0 ? {} : { former }),
      };
      await this.#put(record);
      return { kind: "enrolled", token: await identity.sign(agent, lane, user, expiresAt), expiresAt };
    });
  }

  /** Invariant 1. */
  async #put(record: PairedAgent): Promise<void> {
    await this.#ports.paired.putAll(new Map([[presenceKey(record.agent), record]]));
    this.#records.set(record.agent, record);
  }

  /** Invariant 3. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

export const openFarm: Refusal = {
  kind: "refused",
  code: "open-farm",
  message:
    "this farm is open: it has no identity that could sign anybody in; start its coordinator with FLASHYARD_IDENTITY, or the farm with `flashyard up`",
};

function refusalOf(before: PairedAgent | undefined, agent: AgentId, lane: Lane): Refusal | undefined {
  if (before === undefined) return undefined;
  if (before.state === "revoked") {
    const message = `${agent} was revoked, and its name is not given again: choose another one with --name`;
    return { kind: "refused", code: "revoked", message };
  }
  if (before.lane === lane) return undefined;
  const message = `${agent} is the name of a paired ${before.lane} agent on ${before.host}: choose another one for the ${lane} lane with --name`;
  return { kind: "refused", code: "other-lane", message };
}

/** Keys that were replaced, as long as a token of theirs may be about. */
function formerUsers(before: PairedAgent | undefined, user: string, now: number) {
  if (before === undefined) return [];
  const former = (before.former ?? []).filter(({ user: old, at }) => old !== user && at + tokenMs > now);
  return before.user === user ? former : [...former, { user: before.user, at: now }].slice(-formerMax);
}

/** As many as a record holds. */
const formerMax = 100;
