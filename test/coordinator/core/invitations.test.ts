/** Which machine may join with which code, by the rules alone. */
import { expect, test } from "vitest";
import { isOver, judgeJoin, stateOf } from "#coordinator/core/invitations.ts";
import { approvalMs, invitationMemoryMs, wrongTriesMax } from "#protocol/limits.ts";
import type { AgentIdentity, Invitation, PairedAgent } from "#protocol/pairing.ts";
import { agentNamed } from "#test/support/farm-builders.ts";

const hash = "a".repeat(64);
const minutes = 60_000;

const invitation = (more: Partial<Invitation> = {}): Invitation => ({
  v: 1,
  id: "0123456789abcdef",
  hash,
  madeAt: 0,
  expiresAt: 15 * minutes,
  isUnattended: false,
  wrongTries: 0,
  ...more,
});

const guest = (more: Partial<AgentIdentity> = {}): AgentIdentity => ({
  agent: agentNamed("attic"),
  lane: "compile",
  user: `U${"A".repeat(55)}`,
  seal: "s".repeat(43),
  host: "pi",
  ...more,
});

const holder = (more: Partial<PairedAgent> = {}): PairedAgent => ({
  v: 1,
  ...guest({ user: `U${"Z".repeat(55)}`, host: "other" }),
  pairedAt: 0,
  by: "ann",
  state: "paired",
  ...more,
});

interface Circumstances {
  readonly hash?: string;
  readonly by?: AgentIdentity;
  readonly holder?: PairedAgent | undefined;
  readonly at?: number;
}

/** The verdict, and the invitations after it. */
function judged(invitations: readonly Invitation[], circumstances: Circumstances = {}) {
  const { by = guest(), at = minutes } = circumstances;
  const attempt = { hash: circumstances.hash ?? hash, guest: by };
  const { verdict, changed } = judgeJoin(invitations, attempt, circumstances.holder, at);
  const after = invitations.map((one) => changed.find(({ id }) => id === one.id) ?? one);
  return { verdict, after, changed };
}

const wrong = "b".repeat(64);

test("a machine with the code waits for a person, and asking again changes nothing", () => {
  const first = judged([invitation()]);
  expect(first.verdict).toEqual({ kind: "waiting", until: minutes + approvalMs });
  const again = judged(first.after, { at: 2 * minutes });
  expect(again.verdict).toEqual(first.verdict);
  expect(again.changed).toEqual([]);
});

test.each([
  ["another key", { user: `U${"B".repeat(55)}` }],
  ["another key to seal to", { seal: "t".repeat(43) }],
  ["another name", { agent: agentNamed("cellar") }],
  ["another lane", { lane: "upload" }],
  ["another host", { host: "elsewhere" }],
] as const)("a code that was used is of no use to %s", (_what, other) => {
  const { after } = judged([invitation()]);
  expect(judged(after, { by: guest(other) }).verdict).toMatchObject({ kind: "refused", code: "used" });
});

test("a code is good until it expires, and what was asked in time waits on", () => {
  const last = 15 * minutes - 1;
  expect(judged([invitation()], { at: last }).verdict.kind).toBe("waiting");
  expect(judged([invitation()], { at: last + 1 }).verdict).toMatchObject({ kind: "refused", code: "expired" });
  const { after } = judged([invitation()], { at: last });
  expect(judged(after, { at: last + approvalMs - 1 }).verdict.kind).toBe("waiting");
  expect(judged(after, { at: last + approvalMs }).verdict).toMatchObject({ kind: "refused", code: "expired" });
});

test("an expired code counts for nobody as a wrong one", () => {
  const other = invitation({ id: "f".repeat(16), hash: "c".repeat(64), expiresAt: 60 * minutes });
  expect(judged([invitation(), other], { at: 20 * minutes }).changed).toEqual([]);
});

test("ten wrong codes lock every open one, a new one is open, and who has used theirs waits on", () => {
  const { after: used } = judged([invitation({ id: "1".repeat(16), hash: "d".repeat(64) })], { hash: "d".repeat(64) });
  let invitations: readonly Invitation[] = [invitation(), ...used];
  for (let n = 1; n <= wrongTriesMax; n++) {
    expect(judged(invitations).verdict.kind).toBe("waiting");
    const { verdict, after } = judged(invitations, { hash: wrong });
    expect(verdict).toMatchObject({ kind: "refused", code: "wrong-code" });
    invitations = after;
  }
  expect(judged(invitations).verdict).toMatchObject({ code: "locked", message: expect.stringContaining("agent pair") });
  expect(judged(invitations, { hash: "d".repeat(64) }).verdict.kind).toBe("waiting");
  const fresh = invitation({ id: "2".repeat(16), hash: "e".repeat(64) });
  const { verdict } = judged([...invitations, fresh], { hash: "e".repeat(64) });
  expect(verdict.kind).toBe("waiting");
  // A locked one is locked for good, whatever else is tried.
  expect(judged(invitations, { hash: wrong }).changed).toEqual([]);
});

test("a code for one lane or one name is for no other", () => {
  const forUpload = [invitation({ lane: "upload" })];
  expect(judged(forUpload).verdict).toMatchObject({ code: "other-lane", message: expect.stringContaining("--upload") });
  const named = [invitation({ agent: agentNamed("cellar") })];
  expect(judged(named).verdict).toMatchObject({
    code: "other-name",
    message: expect.stringContaining("--name cellar"),
  });
  expect(judged(named).changed).toEqual([]);
});

test("a revoked name, or that of an agent of the other lane, is given to nobody", () => {
  const revoked = holder({ state: "revoked" });
  expect(judged([invitation()], { holder: revoked }).verdict).toMatchObject({ code: "revoked" });
  expect(judged([invitation()], { holder: holder({ lane: "upload" }) }).verdict).toMatchObject({ code: "other-lane" });
});

test("an unattended code lets in at once, but takes nobody's name unless it says that name", () => {
  const unattended = [invitation({ isUnattended: true })];
  const { verdict, after } = judged(unattended);
  expect(verdict).toEqual({ kind: "admitted", by: "code" });
  expect(judged(after, { by: guest({ user: `U${"B".repeat(55)}` }) }).verdict).toMatchObject({ code: "used" });
  expect(judged(unattended, { holder: holder() }).verdict).toMatchObject({ code: "name-taken" });
  const forName = [invitation({ isUnattended: true, agent: agentNamed("attic") })];
  expect(judged(forName, { holder: holder() }).verdict.kind).toBe("admitted");
});

test("who was let in gets the answer again, until somebody else has the name; who was turned away stays so", () => {
  const [used] = judged([invitation()]).after;
  const approved = [{ ...used!, verdict: { isApproved: true, at: 2 * minutes } }];
  const own = holder(guest());
  expect(judged(approved, { holder: own }).verdict).toEqual({ kind: "admitted", by: "admin" });
  expect(judged(approved, { holder: holder() }).verdict).toMatchObject({ code: "replaced" });
  const rejected = [{ ...used!, verdict: { isApproved: false, at: 2 * minutes } }];
  expect(judged(rejected).verdict).toMatchObject({ code: "rejected" });
});

test("what is over is remembered for an hour, and then forgotten", () => {
  const one = invitation();
  expect(stateOf(one, one.expiresAt)).toBe("expired");
  expect(isOver(one, one.expiresAt + invitationMemoryMs - 1)).toBe(false);
  expect(isOver(one, one.expiresAt + invitationMemoryMs)).toBe(true);
});
