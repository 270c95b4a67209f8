/**
 * Secrets on their way from a request to its record, and from there to the agent that needs them.
 *
 * 1. In a farm with identity no record holds a secret that anybody but the farm can read, and no dispatch one that anybody but its
 *    agent can.
 */
import type { KeyHolder } from "#actor/coordinator-ports.ts";
import { isSealed, seal } from "#actor/sealing.ts";
import type { ChainRequest } from "#protocol/admin.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { AgentId, ChainId } from "#protocol/ids.ts";
import type { Dispatch } from "#protocol/messages.ts";
import type { SealKey } from "#protocol/pairing.ts";
import { secretPurpose, withRequestSecrets, withSecrets } from "#protocol/target-secrets.ts";
import type { Address } from "#coordinator/interpreter.ts";

/** @param identity absent for an open farm, in which secrets stay as they are */
export function addressing(
  identity: Pick<KeyHolder, "unseal"> | undefined,
  sealKeyOf: (agent: AgentId) => SealKey | undefined,
): Address {
  if (identity === undefined) return (_, dispatch) => dispatch;
  return (agent, dispatch) => {
    if (!("target" in dispatch)) return dispatch;
    const { chain, target } = dispatch;
    const key = sealKeyOf(agent);
    if (key === undefined)
      throw new UnavailableError("not-paired", `${agent} has no key to which secrets can be sealed`);
    const readdressed = (secret: string) => seal(key, plain(identity, chain, secret), secretPurpose(chain));
    return { ...dispatch, target: withSecrets(target, readdressed) } as Dispatch;
  };
}

/** A request as its record holds it: a command line has sealed its secrets, and whoever has not is not believed to have none. */
export function keeping(identity: Pick<KeyHolder, "seal"> | undefined): (request: ChainRequest) => ChainRequest {
  if (identity === undefined) return (request) => request;
  return (request) => {
    const purpose = secretPurpose(request.id);
    return withRequestSecrets(request, (secret) => (isSealed(secret) ? secret : seal(identity.seal, secret, purpose)));
  };
}

/** A record of a farm that was open until yesterday has its secrets in the clear. */
function plain(identity: Pick<KeyHolder, "unseal">, chain: ChainId, secret: string): string {
  if (!isSealed(secret)) return secret;
  const opened = identity.unseal(secret, secretPurpose(chain));
  if (opened !== undefined) return opened;
  throw new UnavailableError("not-sealed-to-us", `a secret of ${chain} is sealed to another farm than this one`);
}
