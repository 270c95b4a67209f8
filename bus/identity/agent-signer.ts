/** Signs agents in with the farm's keys. */
import { fromPublic } from "@nats-io/nkeys";
import { open } from "#actor/sealing.ts";
import type { AgentSigner } from "#actor/coordinator-ports.ts";
import { userToken } from "#bus/identity/accounts.ts";
import { contentSecret } from "#bus/object-seal.ts";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";

export function agentSigner(keys: FarmKeys): AgentSigner {
  return {
    sign: (agent, lane, user, expiresAt) =>
      userToken(keys, { kind: "agent", agent, lane }, fromPublic(user), Math.floor(expiresAt / 1_000)),
    unseal: (sealed, purpose) => open(keys.seal, sealed, purpose),
    contentSecret: (store, digest) => contentSecret(keys.store, store, digest),
  };
}
