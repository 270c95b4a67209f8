/**
 * Where machines ask to become agents, agents for new tokens, and admins who is paired. The rules are in `core/invitations.ts`.
 *
 * 1. What an invitation has become is in its bucket before anybody is told.
 * 2. Questions take turns. So many a second are answered; whoever is left out asks again.
 * 3. An agent whose right has ended is out of the registry first; then the servers are told, until they have been.
 */
import type { Clock } from "#actor/clock.ts";
import type { KeyHolder, Call, CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import { digestOf } from "#actor/digest.ts";
import type { Log } from "#actor/log.ts";
import type { AdminAnswer, GuestView, PairingRequest } from "#protocol/admin.ts";
import { decode } from "#protocol/envelope.ts";
import { messageOf, UnavailableError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import { askBytesMax, invitationsMax } from "#protocol/limits.ts";
import {
  type AgentIdentity,
  type Invitation,
  type JoinAsk,
  joinText,
  type PairAnswer,
  PairAsk,
  type RenewAsk,
  renewalText,
} from "#protocol/pairing.ts";
import { isOver, judgeJoin, stateOf, waitsUntil } from "#coordinator/core/invitations.ts";
import { type Enrolled, openFarm, type Registry } from "#coordinator/registry.ts";

type DeskPorts = Pick<CoordinatorPorts, "invitations" | "identity" | "servePairing">;

export interface DeskWorld {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Log;
  isLeading(): boolean;
  /** Told when an agent may not work any more. */
  onRevoked(agent: AgentId): void;
}

/** Each may cost the coordinator 12 ms, a signature of an NKey; more than these are strangers who mean no good. */
const asksPerSecondMax = 20;

/** Between two tries to tell the servers. */
const pushAgainMs = 5_000;

export class PairingDesk {
  readonly #ports: DeskPorts;
  readonly #world: DeskWorld;
  readonly #invitations = new Map<string, Invitation>();
  #turn: Promise<unknown> = Promise.resolve();
  #second = 0;
  #asksOfSecond = 0;
  /** Invariant 3: when the servers are to be told; undefined when they have been. */
  #pushAt: number | undefined = 0;
  #isPushing = false;

  constructor(ports: DeskPorts, world: DeskWorld) {
    this.#ports = ports;
    this.#world = world;
  }

  /** Called when a coordinator begins to lead. @throws UnavailableError */
  async load(): Promise<void> {
    const invitations = await this.#ports.invitations.all();
    this.#invitations.clear();
    for (const invitation of invitations) this.#invitations.set(invitation.id, invitation);
  }

  listen(): Listening {
    return this.#ports.servePairing((call) => this.#hear(call));
  }

  #hear(call: Call): void {
    if (!this.#world.isLeading() || call.bytes.length > askBytesMax || this.#isTooMuch()) return;
    const answer = (body: PairAnswer) => call.answer(body);
    const decoded = decode(PairAsk, call.bytes);
    if (!decoded.ok) return answer(refused("not-understood", `the question is invalid: ${decoded.error.message}`));
    const { identity } = this.#ports;
    if (identity === undefined) return answer(refused(openFarm.code, openFarm.message));
    void this.#serve(decoded.value, identity, answer);
  }

  async #serve(ask: PairAsk, identity: KeyHolder, answer: (body: PairAnswer) => void): Promise<void> {
    try {
      const body = await this.#inTurn(() => this.#answerTo(ask, identity));
      // Another one may lead now, and have decided otherwise.
      if (this.#world.isLeading()) answer(body);
    } catch (error) {
      // It asks again.
      this.#world.log.warn({ err: error, kind: ask.kind }, "a question about pairing could not be answered");
    }
  }

  /** Invariant 2. */
  #isTooMuch(): boolean {
    const second = Math.floor(this.#world.clock.monotonic() / 1_000);
    if (second !== this.#second) this.#asksOfSecond = 0;
    this.#second = second;
    this.#asksOfSecond += 1;
    return this.#asksOfSecond > asksPerSecondMax;
  }

  #answerTo(ask: PairAsk, identity: KeyHolder): Promise<PairAnswer> {
    switch (ask.kind) {
      case "introduce":
        return identity.introduce(ask.nonce).then((farm) => ({ v: 1, kind: "farm", ...farm }));
      case "join":
        return this.#join(ask, identity);
      case "renew":
        return this.#renew(ask, identity);
    }
  }

  async #join(ask: JoinAsk, identity: KeyHolder): Promise<PairAnswer> {
    const { registry, clock } = this.#world;
    const { agent, lane, user, seal, host } = ask;
    const guest = { agent, lane, user, seal, host };
    if (!identity.hasSigned(user, joinText(identity.pin, ask), ask.signature)) {
      return refused("bad-signature", "the question is not signed with the key that it names");
    }
    const hash = digestOf(new TextEncoder().encode(ask.code));
    const invitations = [...this.#invitations.values()];
    const { verdict, changed } = judgeJoin(invitations, { hash, guest }, registry.recordOf(agent), clock.now());
    await this.#keep(changed);
    this.#tell(guest, verdict.kind === "refused" ? verdict.code : verdict.kind, changed.length > 0);
    switch (verdict.kind) {
      case "refused":
        return refused(verdict.code, verdict.message);
      case "waiting":
        return { v: 1, kind: "waiting", until: verdict.until };
      case "admitted": {
        if (!this.#world.isLeading()) throw new UnavailableError("deposed", "another coordinator leads");
        const enrolled = await this.#enrol(guest, verdict.by);
        const used = [...this.#invitations.values()].find((one) => one.hash === hash);
        if (enrolled.kind === "enrolled" && used !== undefined) await this.#decide(used, true);
        return answerOf(enrolled);
      }
    }
  }

  #tell({ agent, lane, host }: Pick<JoinAsk, "agent" | "lane" | "host">, outcome: string, isNews: boolean): void {
    if (isNews) this.#world.log.warn({ agent, lane, host, outcome }, "a machine asks to join the farm");
  }

  async #renew(ask: RenewAsk, identity: KeyHolder): Promise<PairAnswer> {
    const { agent, user } = ask;
    const { registry } = this.#world;
    const isItself =
      registry.recordOf(agent)?.user !== user ||
      identity.hasSigned(user, renewalText(identity.pin, ask), ask.signature);
    if (!isItself) return refused("bad-signature", "the question is not signed with the key that it names");
    return answerOf(await registry.renew(agent, user));
  }

  /** Invariant 1. */
  async #keep(changed: readonly Invitation[]): Promise<void> {
    if (changed.length === 0) return;
    await this.#ports.invitations.putAll(new Map(changed.map((invitation) => [invitation.id, invitation])));
    for (const invitation of changed) this.#invitations.set(invitation.id, invitation);
  }

  async #decide(invitation: Invitation, isApproved: boolean): Promise<void> {
    if (invitation.verdict !== undefined) return;
    await this.#keep([{ ...invitation, verdict: { isApproved, at: this.#world.clock.now() } }]);
  }

  async #forgetOld(): Promise<void> {
    const now = this.#world.clock.now();
    const over = [...this.#invitations.values()].filter((invitation) => isOver(invitation, now)).map(({ id }) => id);
    await this.#ports.invitations.removeAll(over);
    for (const id of over) this.#invitations.delete(id);
  }

  /** What an admin asks. @param admin their name @throws UnavailableError */
  answer(request: PairingRequest, admin: string): Promise<AdminAnswer> {
    if (this.#ports.identity === undefined) return Promise.resolve(openFarm);
    return this.#inTurn(() => this.#answerAdmin(request, admin));
  }

  async #answerAdmin(request: PairingRequest, admin: string): Promise<AdminAnswer> {
    switch (request.kind) {
      case "enrol-agent":
        return this.#enrol(request, admin);
      case "make-invitation":
        return this.#invite(request);
      case "pairings":
        return this.#pairings();
      case "decide-pairing":
        return this.#decideOn(request, admin);
      case "revoke-agent":
        return this.#revoke(request.agent);
    }
  }

  async #invite(request: Extract<PairingRequest, { kind: "make-invitation" }>): Promise<AdminAnswer> {
    const { id, hash, validMs, isUnattended, lane, agent } = request;
    const made = this.#invitations.get(id);
    if (made !== undefined) return { kind: "invitation-made", expiresAt: made.expiresAt };
    await this.#forgetOld();
    const now = this.#world.clock.now();
    const busy = [...this.#invitations.values()].filter((one) => ["open", "waiting"].includes(stateOf(one, now)));
    if (busy.length >= invitationsMax) {
      const message = `${busy.length} codes are open or wait for a person, and there are no more at one time: approve or reject some, see \`flashyard agent ls\``;
      return { kind: "refused", code: "too-many-invitations", message };
    }
    const expiresAt = now + validMs;
    const only = { ...(lane === undefined ? {} : { lane }), ...(agent === undefined ? {} : { agent }) };
    await this.#keep([{ v: 1, id, hash, madeAt: now, expiresAt, isUnattended, ...only, wrongTries: 0 }]);
    return { kind: "invitation-made", expiresAt };
  }

  #pairings(): AdminAnswer {
    const { registry, clock } = this.#world;
    const now = clock.now();
    const invitations = [...this.#invitations.values()];
    const guests = invitations.flatMap((invitation): GuestView[] => {
      const { guest } = invitation;
      if (guest === undefined || stateOf(invitation, now) !== "waiting") return [];
      const { at: askedAt, ...identity } = guest;
      const holder = registry.recordOf(identity.agent);
      const replaces = holder === undefined || holder.user === guest.user ? {} : { replaces: holder.host };
      return [{ ...identity, askedAt, until: waitsUntil(invitation), ...replaces }];
    });
    const open = invitations.filter((invitation) => stateOf(invitation, now) === "open").length;
    return { kind: "pairings", paired: [...registry.records()], guests, open };
  }

  async #decideOn(
    { user, isApproved }: Extract<PairingRequest, { kind: "decide-pairing" }>,
    admin: string,
  ): Promise<AdminAnswer> {
    const { clock } = this.#world;
    const ofKey = [...this.#invitations.values()].filter(({ guest }) => guest?.user === user);
    // The same decision asked again, because its answer was lost.
    const done = ofKey.find(({ verdict }) => verdict?.isApproved === isApproved);
    const waiting = ofKey.find((invitation) => stateOf(invitation, clock.now()) === "waiting");
    const guest = (waiting ?? done)?.guest;
    if (guest === undefined) {
      const message = "no such machine waits any more: see `flashyard agent ls`";
      return { kind: "refused", code: "not-found", message };
    }
    if (waiting !== undefined) {
      const enrolled = isApproved ? await this.#enrol(guest, admin) : undefined;
      if (enrolled?.kind === "refused") return enrolled;
      await this.#decide(waiting, isApproved);
    }
    return { kind: "pairing-decided", agent: guest.agent, isApproved };
  }

  async #revoke(agent: AgentId): Promise<AdminAnswer> {
    const record = await this.#world.registry.revoke(agent);
    if (record === undefined) {
      const message = `no agent ${agent} was ever paired; \`flashyard agent ls\` lists them`;
      return { kind: "refused", code: "not-found", message };
    }
    this.#world.onRevoked(agent);
    this.#pushAt = 0;
    await this.push();
    return { kind: "agent-revoked", agent, isCut: this.#pushAt === undefined };
  }

  /** Whoever loses its name to others is cut off. */
  async #enrol(guest: AgentIdentity, by: string): Promise<Enrolled> {
    const { registry } = this.#world;
    const before = registry.recordOf(guest.agent);
    const enrolled = await registry.enrol(guest, by);
    if (enrolled.kind === "enrolled" && before !== undefined && before.user !== guest.user) {
      this.#pushAt = 0;
      await this.push();
    }
    return enrolled;
  }

  /** Called whenever the servers may have forgotten, as after a restart of theirs. */
  pushAgain(): void {
    this.#pushAt = 0;
  }

  /** Invariant 3; called at each beat. */
  async push(): Promise<void> {
    const { identity } = this.#ports;
    const { registry, clock, log } = this.#world;
    const at = this.#pushAt;
    if (identity === undefined || this.#isPushing || at === undefined || clock.monotonic() < at) return;
    const revocations = registry.revocations();
    this.#pushAt = undefined;
    if (revocations.size === 0) return;
    this.#isPushing = true;
    try {
      await identity.revoke(revocations);
    } catch (error) {
      this.#pushAt = clock.monotonic() + pushAgainMs;
      log.warn({ reason: messageOf(error) }, "the servers cannot be told yet who was revoked: trying again");
    } finally {
      this.#isPushing = false;
    }
  }

  /** Invariant 2. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

function refused(code: string, message: string): PairAnswer {
  return { v: 1, kind: "refused", code, message };
}

function answerOf(enrolled: Enrolled): PairAnswer {
  if (enrolled.kind === "refused") return refused(enrolled.code, enrolled.message);
  return { v: 1, kind: "joined", token: enrolled.token, expiresAt: enrolled.expiresAt };
}
