/**
 * Who may be an agent of this farm, and with which keys. An open farm, which has no identity, knows nobody and lets everybody in.
 *
 * 1. A record is in its bucket before it counts, and before a token is given out for it.
 * 2. A revoked agent stays revoked: its name comes back for nobody. Its record is kept under a key of its own as well, so that no write of
 *    a coordinator that was replaced in the middle of one takes its place.
 * 3. Changes take turns.
 */
import type { Clock } from "#actor/clock.ts";
import type { CoordinatorPorts } from "#actor/coordinator-ports.ts";
import type { AdminAnswer } from "#protocol/admin.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { tokenMs } from "#protocol/limits.ts";
import { pairedKey, revokedKey } from "#protocol/names.ts";
import type { AgentIdentity, PairedAgent, SealKey, UserKey } from "#protocol/pairing.ts";
import type { BuilderStanding } from "#protocol/provenance.ts";
import { nameRefusal } from "#coordinator/core/invitations.ts";

type RegistryPorts = Pick<CoordinatorPorts, "paired" | "identity">;
type Refusal = Extract<AdminAnswer, { readonly kind: "refused" }>;
export type Enrolled = Extract<AdminAnswer, { readonly kind: "enrolled" }> | Refusal;

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
    for (const record of records) {
      // Invariant 2.
      if (this.#records.get(record.agent)?.state !== "revoked") this.#records.set(record.agent, record);
    }
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

  /** Whether what it asks is answered; `lane`: where it asks about one. */
  mayAsk(agent: AgentId, lane: Lane | undefined): boolean {
    if (this.#ports.identity === undefined) return true;
    const paired = this.laneOf(agent);
    return paired !== undefined && (lane === undefined || lane === paired);
  }

  recordOf(agent: AgentId): PairedAgent | undefined {
    return this.#records.get(agent);
  }

  /** In the order of their names. */
  records(): readonly PairedAgent[] {
    return [...this.#records.values()].toSorted((a, b) => (a.agent < b.agent ? -1 : 1));
  }

  /** How the farm knows a key with which an agent has signed what it built. */
  builderStanding(agent: AgentId, user: UserKey): BuilderStanding {
    const record = this.#records.get(agent);
    if (record === undefined || record.lane !== "compile") return "unknown";
    const isOwn = record.user === user;
    if (!isOwn && record.former?.some((former) => former.user === user) !== true) return "unknown";
    if (record.state === "revoked") return "revoked";
    return isOwn ? "paired" : "former";
  }

  #paired(agent: AgentId): PairedAgent | undefined {
    const record = this.#records.get(agent);
    return record?.state === "paired" ? record : undefined;
  }

  /** Pairs an agent, or gives a paired one its new keys, and signs it in. @throws UnavailableError */
  enrol({ agent, lane, user, seal, host }: AgentIdentity, by: string): Promise<Enrolled> {
    return this.#inTurn(async () => {
      const before = this.#records.get(agent);
      const refused = nameRefusal(before, agent, { lane });
      if (refused !== undefined) return { kind: "refused", ...refused };
      const now = this.#clock.now();
      const former = formerUsers(before, user, now);
      const isSame = before?.user === user && before.seal === seal;
      return this.#sign({
        v: 1,
        agent,
        lane,
        user,
        seal,
        host,
        pairedAt: isSame ? before.pairedAt : now,
        by: isSame ? before.by : by,
        state: "paired",
        ...(former.length === 0 ? {} : { former }),
        ...(before?.blockedAt === undefined ? {} : { blockedAt: before.blockedAt }),
      });
    });
  }

  /** A new token for the keys that an agent has shown when it was paired. @throws UnavailableError */
  renew(agent: AgentId, user: UserKey): Promise<Enrolled> {
    return this.#inTurn(async () => {
      const record = this.#records.get(agent);
      return record?.state === "paired" && record.user === user ? this.#sign(record) : notPaired(agent, record);
    });
  }

  /** Invariants 1 and 2. @returns undefined for an agent that was never paired. @throws UnavailableError */
  revoke(agent: AgentId): Promise<PairedAgent | undefined> {
    return this.#inTurn(async () => {
      const before = this.#records.get(agent);
      if (before === undefined || before.state === "revoked") return before;
      const record: PairedAgent = { ...before, state: "revoked", revokedAt: this.#clock.now() };
      await this.#ports.paired.putAll(
        new Map([
          [revokedKey(agent), record],
          [pairedKey(agent), record],
        ]),
      );
      this.#records.set(agent, record);
      return record;
    });
  }

  /** Whether what it has built may be flashed. @throws UnavailableError */
  setBlocked(agent: AgentId, isBlocked: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#records.get(agent);
      if (before === undefined || (before.blockedAt !== undefined) === isBlocked) return;
      const { blockedAt: _before, ...rest } = before;
      const record = isBlocked ? { ...rest, blockedAt: this.#clock.now() } : rest;
      const keys = record.state === "revoked" ? [revokedKey(agent), pairedKey(agent)] : [pairedKey(agent)];
      await this.#ports.paired.putAll(new Map(keys.map((key) => [key, record])));
      this.#records.set(agent, record);
    });
  }

  /** Keys with which nobody may sign in any more, as long as a token of theirs may be about, and since when (ms since 1970). */
  revocations(): ReadonlyMap<UserKey, number> {
    const ended = new Map<UserKey, number>();
    const now = this.#clock.now();
    for (const { user, state, revokedAt, former = [] } of this.#records.values()) {
      for (const old of former) if (old.at + tokenMs > now) ended.set(old.user, old.at);
      if (state === "revoked") ended.set(user, revokedAt ?? now);
    }
    return ended;
  }

  async #sign(record: PairedAgent): Promise<Enrolled> {
    const { identity } = this.#ports;
    if (identity === undefined) return openFarm;
    const { agent, lane, user } = record;
    const expiresAt = this.#clock.now() + tokenMs;
    const signed = { ...record, expiresAt };
    await this.#ports.paired.putAll(new Map([[pairedKey(agent), signed]]));
    this.#records.set(agent, signed);
    return { kind: "enrolled", token: await identity.sign(agent, lane, user, expiresAt), expiresAt };
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

function notPaired(agent: AgentId, record: PairedAgent | undefined): Refusal {
  if (record?.state === "revoked") {
    return {
      kind: "refused",
      code: "revoked",
      message: `${agent} was revoked: this machine may not work here any more`,
    };
  }
  const message = `${agent} is not paired with these keys: have a line made with \`flashyard agent pair\`, and join the farm anew`;
  return { kind: "refused", code: "not-paired", message };
}

/** Keys that were replaced, as long as a token of theirs may be about. */
function formerUsers(before: PairedAgent | undefined, user: string, now: number) {
  if (before === undefined) return [];
  const former = (before.former ?? []).filter(({ user: old, at }) => old !== user && at + tokenMs > now);
  return before.user === user ? former : [...former, { user: before.user, at: now }].slice(-formerMax);
}

/** As many as a record holds. */
const formerMax = 100;
