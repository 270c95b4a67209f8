/**
 * Joining a farm, on the side of the machine that wants to.
 *
 * 1. Nothing is said to a server before it has shown that it is the farm's: by its certificate where there is TLS, and in any case by a
 *    signature of the farm's authority over a number that was just made.
 */
import { randomBytes, sign, verify, X509Certificate } from "node:crypto";
import { fromSeed } from "@nats-io/nkeys";
import { signingKeyOf } from "#actor/nkey.ts";
import { UsageError } from "#protocol/errors.ts";
import type { JoinLine } from "#protocol/join-line.ts";
import { pairSubject } from "#protocol/names.ts";
import { introductionText, joinText, PairAnswer, type PairAsk, renewalText } from "#protocol/pairing.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { spkiDigest } from "#bus/identity/spki-digest.ts";
import type { Candidate } from "#bus/identity/candidate.ts";
import type { Credentials } from "#bus/identity/credentials.ts";
import { inboxOf } from "#bus/identity/permissions.ts";
import { pinnedAuthority } from "#bus/identity/pinned-authority.ts";
import { request } from "#bus/rpc.ts";
import { hasTls, requirePrivate, serversIn } from "#bus/server-addresses.ts";

/** The coordinator answers after a write to its disk. */
const askTimeoutMs = 4_000;

export function ask(connection: Connection, question: PairAsk): Promise<PairAnswer> {
  return request(connection, pairSubject, question, PairAnswer, askTimeoutMs);
}

/** Connects as one who has not signed in, to servers that are of the farm of the pin as far as TLS can say. @throws as `pinnedAuthority`, `connect` */
export async function connectAsStranger(
  { servers, pin }: Pick<JoinLine, "servers" | "pin">,
  known?: string,
): Promise<Connection> {
  const named = serversIn(servers);
  requirePrivate(named);
  const secured = named.find(hasTls);
  const authority = known ?? (secured === undefined ? undefined : await pinnedAuthority(secured, pin));
  const inbox = inboxOf({ kind: "stranger" });
  return connect(servers, "flashyard stranger", { inbox, ...(authority === undefined ? {} : { authority }) });
}

/** Invariant 1. @throws UsageError `wrong-farm`; UnavailableError when no coordinator answers */
export async function farmBehind(connection: Connection, pin: string): Promise<Credentials["farm"]> {
  const nonce = randomBytes(24).toString("base64url");
  const answer = await ask(connection, { v: 1, kind: "introduce", nonce });
  if (answer.kind === "refused") throw new UsageError(answer.code, answer.message);
  if (answer.kind !== "farm") throw otherFarm(pin);
  const { authority, seal, signature } = answer;
  const key = publicKeyOf(authority);
  const isIt =
    key !== undefined &&
    spkiDigest(key) === pin &&
    verify(
      "sha256",
      Buffer.from(introductionText(pin, nonce, seal)),
      { key, dsaEncoding: "ieee-p1363" },
      Buffer.from(signature, "base64url"),
    );
  if (!isIt) throw otherFarm(pin);
  return { pin, authority, seal };
}

function publicKeyOf(certificate: string) {
  try {
    return new X509Certificate(certificate).publicKey;
  } catch {
    return undefined;
  }
}

function otherFarm(pin: string): UsageError {
  const message = `what answers is not the farm that the line is for: it cannot show the key of the pin ${pin}. The code was not sent; have a new line made, and ask who answers at that address`;
  return new UsageError("wrong-farm", message);
}

/** Asks with the code, as often as one likes: a code is for one machine, and this one stays the same. @throws UnavailableError */
export function askToJoin(
  connection: Connection,
  { pin, code }: JoinLine,
  { identity, seed }: Candidate,
): Promise<PairAnswer> {
  const { agent, lane, host, user, seal } = identity;
  const said = { code, agent, lane, host, user, seal };
  return ask(connection, { v: 1, kind: "join", ...said, signature: signed(seed, joinText(pin, said)) });
}

/** Asks for a new token. @throws UnavailableError */
export function askToRenew(connection: Connection, { role, seed, farm }: Credentials): Promise<PairAnswer> {
  if (role.kind !== "agent") throw new UsageError("other-credentials", "only an agent's token is renewed");
  const { agent } = role;
  const user = fromSeed(new TextEncoder().encode(seed)).getPublicKey();
  const nonce = randomBytes(24).toString("base64url");
  const signature = signed(seed, renewalText(farm.pin, { agent, user, nonce }));
  return ask(connection, { v: 1, kind: "renew", agent, user, nonce, signature });
}

/** By node's own Ed25519: the library's is plain JavaScript, and an agent renews its token at each start. */
function signed(seed: string, text: string): string {
  return sign(null, Buffer.from(text), signingKeyOf(seed)).toString("base64url");
}
