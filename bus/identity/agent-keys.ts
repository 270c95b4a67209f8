/** The keys that an agent makes for itself: one to sign in and to sign what it says, one to which its secrets are sealed. */
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { createUser, fromSeed } from "@nats-io/nkeys";
import { SealKey, UserKey } from "#protocol/pairing.ts";
import type { Credentials } from "#bus/identity/credentials.ts";

/** The secret halves, as credentials hold them. */
export type AgentSecrets = Pick<Credentials, "seed"> & { readonly unseal: string };

export function newAgentSecrets(): AgentSecrets {
  const { privateKey } = generateKeyPairSync("x25519");
  return {
    seed: new TextDecoder().decode(createUser().getSeed()),
    unseal: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

/** The public halves. */
export function publicKeysOf({ seed, unseal }: AgentSecrets): { readonly user: UserKey; readonly seal: SealKey } {
  const { x } = createPublicKey(unseal).export({ format: "jwk" });
  return {
    user: UserKey.parse(fromSeed(new TextEncoder().encode(seed)).getPublicKey()),
    seal: SealKey.parse(x),
  };
}
