/** The farm's keys at work: they show that the farm is itself, sign agents in, and out. */
import { sign } from "node:crypto";
import { decode } from "@nats-io/jwt";
import { fromPublic } from "@nats-io/nkeys";
import { open } from "#actor/sealing.ts";
import { signVouch } from "#actor/provenance.ts";
import type { KeyHolder } from "#actor/coordinator-ports.ts";
import { messageOf, UnavailableError } from "#protocol/errors.ts";
import { introductionText, type UserKey } from "#protocol/pairing.ts";
import { edgeToken, type Revocations, systemToken, userToken } from "#bus/identity/accounts.ts";
import { contentSecret } from "#bus/object-seal.ts";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";
import { farmOf } from "#bus/identity/identity-folder.ts";
import { type Connection, connect, translate } from "#bus/connection.ts";

const claimsSubject = "$SYS.REQ.CLAIMS.UPDATE";
/** A server that is there answers in milliseconds. */
const claimsTimeoutMs = 4_000;

/** @param servers where the account of NATS itself is reached, as for `connect` */
export async function keyHolder(keys: FarmKeys, servers: string): Promise<KeyHolder> {
  const { pin, authority, seal } = await farmOf(keys);
  return {
    pin,
    seal,
    introduce: (nonce) => {
      const text = Buffer.from(introductionText(pin, nonce, seal));
      const signature = sign("sha256", text, { key: keys.authority, dsaEncoding: "ieee-p1363" });
      return Promise.resolve({ authority, seal, signature: signature.toString("base64url") });
    },
    hasSigned,
    sign: (agent, lane, user, expiresAt) =>
      userToken(keys, { kind: "agent", agent, lane }, fromPublic(user), Math.floor(expiresAt / 1_000)),
    unseal: (sealed, purpose) => open(keys.seal, sealed, purpose),
    vouch: (vouch) => signVouch(keys.authority, vouch),
    contentSecret: (store, digest) => contentSecret(keys.store, store, digest),
    revoke: (users) => pushRevocations(keys, { servers, authority }, users),
  };
}

/** A key that has the form of one, and is none, has signed nothing. */
function hasSigned(user: UserKey, text: string, signature: string): boolean {
  try {
    return fromPublic(user).verify(new TextEncoder().encode(text), Buffer.from(signature, "base64url"));
  } catch {
    return false;
  }
}

/** A token is known by the second of its issue, and one of the same second is no good either. */
function revocationsOf(users: ReadonlyMap<UserKey, number>): Revocations {
  return Object.fromEntries([...users].map(([user, at]) => [user, Math.ceil(at / 1_000)]));
}

/** To all servers of the cluster: the account of NATS itself spans it, and each stores what it hears. */
async function pushRevocations(
  keys: FarmKeys,
  { servers, authority }: { readonly servers: string; readonly authority: string },
  users: ReadonlyMap<UserKey, number>,
): Promise<void> {
  const { token, seed } = await systemToken(keys);
  const connection = await connect(servers, "flashyard coordinator, revoking", {
    token,
    seed,
    inbox: "_INBOX_system",
    authority,
  });
  try {
    await update(connection, await edgeToken(keys, revocationsOf(users)));
  } finally {
    await connection.close();
  }
}

async function update(connection: Connection, token: string): Promise<void> {
  const account = decode(token).sub;
  let answer: { readonly data?: { readonly account?: string; readonly code?: number }; readonly error?: unknown };
  try {
    answer = (await connection.request(claimsSubject, token, { timeout: claimsTimeoutMs })).json();
  } catch (error) {
    throw translate(error, "tell the servers who was revoked");
  }
  if (answer.data?.account === account && answer.data?.code === 200) return;
  throw new UnavailableError(
    "claims-refused",
    `the server does not take the account's claims: ${messageOf(answer.error)}`,
  );
}
