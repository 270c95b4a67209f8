/**
 * Which machine may join with which code.
 *
 * 1. A code is for the machine that used it first, and is good until it expires; whoever comes with it later is another one.
 * 2. Wrong codes count against every open invitation: at `wrongTriesMax` it is locked, and stays so.
 * 3. What a machine has used a code for does not change: not its name, its lane or its keys.
 * 4. Where no person looks on, nobody takes the name of an agent that is there, unless the invitation says that name.
 */
import type { AgentId } from "#protocol/ids.ts";
import { approvalMs, invitationMemoryMs, wrongTriesMax } from "#protocol/limits.ts";
import type { AgentIdentity, Invitation, PairedAgent } from "#protocol/pairing.ts";

export interface JoinTry {
  /** Of the code. */
  readonly hash: string;
  readonly guest: AgentIdentity;
}

export type JoinVerdict =
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  | { readonly kind: "waiting"; readonly until: number }
  /** To be paired, or paired and its answer was lost; `by` as in its record. */
  | { readonly kind: "admitted"; readonly by: "code" | "admin" };

export interface JoinStep {
  readonly verdict: JoinVerdict;
  /** Invitations that are other than before; stored before the verdict counts. */
  readonly changed: readonly Invitation[];
}

type State = "open" | "waiting" | "approved" | "rejected" | "locked" | "expired";

export function stateOf(invitation: Invitation, now: number): State {
  const { guest, verdict, wrongTries, expiresAt } = invitation;
  if (guest === undefined) {
    if (wrongTries >= wrongTriesMax) return "locked";
    return now < expiresAt ? "open" : "expired";
  }
  if (verdict !== undefined) return verdict.isApproved ? "approved" : "rejected";
  return now < waitsUntil(invitation) ? "waiting" : "expired";
}

/** When a machine that waits gives up, or an open code ends (ms since 1970). */
export function waitsUntil({ guest, expiresAt }: Invitation): number {
  return guest === undefined ? expiresAt : guest.at + approvalMs;
}

/** Whether it can be forgotten. */
export function isOver(invitation: Invitation, now: number): boolean {
  return now >= waitsUntil(invitation) + invitationMemoryMs;
}

/** What becomes of a machine that comes with a code. @param holder who has the name that it wants */
export function judgeJoin(
  invitations: readonly Invitation[],
  { hash, guest }: JoinTry,
  holder: PairedAgent | undefined,
  now: number,
): JoinStep {
  const invitation = invitationOf(invitations, hash);
  if (invitation === undefined) return wrongCode(invitations, now);
  const refused = (code: string, message: string): JoinStep => ({
    verdict: { kind: "refused", code, message },
    changed: [],
  });
  const state = stateOf(invitation, now);
  if (state === "locked") {
    return refused("locked", `too many wrong codes were tried, and this one is locked: ${anotherLine}`);
  }
  if (state === "expired") return refused("expired", `the time of this code is over: ${anotherLine}`);
  if (state === "open") {
    const misfit = misfitOf(invitation, guest, holder);
    if (misfit !== undefined) return refused(misfit.code, misfit.message);
    const used: Invitation = { ...invitation, guest: { ...guest, at: now } };
    return { verdict: standingOf(used), changed: [used] };
  }
  if (!isSame(invitation.guest, guest)) {
    return refused("used", `another machine has used this code already: ${anotherLine}`);
  }
  if (state === "rejected") return refused("rejected", "the farm's admin has turned this machine away");
  if (state === "waiting") return { verdict: standingOf(invitation), changed: [] };
  if (holder?.user !== guest.user) {
    return refused("replaced", `${guest.agent} has been paired anew since, with other keys: ${anotherLine}`);
  }
  return { verdict: { kind: "admitted", by: invitation.isUnattended ? "code" : "admin" }, changed: [] };
}

const anotherLine = "have another line made with `flashyard agent pair`";

/** Of one that a machine has used, and that nobody has decided about. */
function standingOf(invitation: Invitation): JoinVerdict {
  return invitation.isUnattended
    ? { kind: "admitted", by: "code" }
    : { kind: "waiting", until: waitsUntil(invitation) };
}

/** Looks at all of them, whichever it is. */
function invitationOf(invitations: readonly Invitation[], hash: string): Invitation | undefined {
  return invitations.reduce<Invitation | undefined>(
    (found, invitation) => (isEqual(invitation.hash, hash) ? invitation : found),
    undefined,
  );
}

/** In a time that does not depend on where they differ. */
function isEqual(one: string, other: string): boolean {
  if (one.length !== other.length) return false;
  let difference = 0;
  for (let at = 0; at < one.length; at++) difference |= one.charCodeAt(at) ^ other.charCodeAt(at);
  return difference === 0;
}

/** Invariant 2. */
function wrongCode(invitations: readonly Invitation[], now: number): JoinStep {
  const changed = invitations
    .filter((invitation) => stateOf(invitation, now) === "open")
    .map((invitation) => withWrongTry(invitation));
  const message = `this farm knows no such code: check that the whole line was pasted, or ${anotherLine}`;
  return { verdict: { kind: "refused", code: "wrong-code", message }, changed };
}

function withWrongTry(invitation: Invitation): Invitation {
  return { ...invitation, wrongTries: invitation.wrongTries + 1 };
}

function misfitOf(
  { lane, agent, isUnattended }: Invitation,
  guest: AgentIdentity,
  holder: PairedAgent | undefined,
): { readonly code: string; readonly message: string } | undefined {
  if (lane !== undefined && lane !== guest.lane) {
    return { code: "other-lane", message: `this code is for a machine of the ${lane} lane: join with --${lane}` };
  }
  if (agent !== undefined && agent !== guest.agent) {
    return { code: "other-name", message: `this code is for the agent ${agent}: join with --name ${agent}` };
  }
  const taken = nameRefusal(holder, guest.agent, guest);
  if (taken !== undefined) return taken;
  if (isUnattended && agent === undefined && holder !== undefined && holder.user !== guest.user) {
    const message = `there is an agent ${guest.agent} on ${holder.host}: choose another name with --name, or have a line made for that name`;
    return { code: "name-taken", message };
  }
  return undefined;
}

/** Why nobody gets a name, or not for this lane. @param holder who has it */
export function nameRefusal(
  holder: PairedAgent | undefined,
  agent: AgentId,
  { lane }: Pick<AgentIdentity, "lane">,
): { readonly code: string; readonly message: string } | undefined {
  if (holder === undefined) return undefined;
  if (holder.state === "revoked") {
    const message = `${agent} was revoked, and its name is not given again: choose another one with --name`;
    return { code: "revoked", message };
  }
  if (holder.lane === lane) return undefined;
  const message = `${agent} is the name of a paired ${holder.lane} agent on ${holder.host}: choose another one for the ${lane} lane with --name`;
  return { code: "other-lane", message };
}

/** Invariant 3. */
function isSame(one: AgentIdentity | undefined, other: AgentIdentity): boolean {
  return (
    one !== undefined &&
    (["agent", "lane", "user", "seal", "host"] as const).every((field) => one[field] === other[field])
  );
}
