/** Signs what an agent has built with the key that it signs in with. */
import { fromSeed } from "@nats-io/nkeys";
import { signingKeyOf } from "#actor/nkey.ts";
import { signStatement } from "#actor/provenance.ts";
import type { Provenance } from "#protocol/artifact.ts";
import { UserKey } from "#protocol/pairing.ts";
import type { Statement } from "#protocol/provenance.ts";
import type { Credentials } from "#bus/identity/credentials.ts";

export type BuildSigner = (statement: Omit<Statement, "user">) => Provenance;

export function buildSigner({ seed }: Pick<Credentials, "seed">): BuildSigner {
  const key = signingKeyOf(seed);
  const user = UserKey.parse(fromSeed(new TextEncoder().encode(seed)).getPublicKey());
  return (statement) => signStatement(key, { ...statement, user });
}
