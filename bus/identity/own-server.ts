/** A nats-server of one's own for a while, signed in to as its coordinator. */
import { createUser } from "@nats-io/nkeys";
import { type Connection, connect } from "#bus/connection.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { farmTokens, userToken } from "#bus/identity/accounts.ts";
import { farmKeysIn } from "#bus/identity/farm-keys.ts";
import { inboxOf } from "#bus/identity/permissions.ts";

export interface OwnServer extends AsyncDisposable {
  readonly connection: Connection;
}

/**
 * @param keys the file of the farm's keys, made where there are none
 * @throws as `startEmbeddedServer`, `farmKeysIn` and `connect`
 */
export async function startOwnServer(binary: string, folder: string, keys: string): Promise<OwnServer> {
  await using started = new AsyncDisposableStack();
  const farm = await farmKeysIn(keys);
  const identity = { keys: farm, tokens: await farmTokens(farm, {}) };
  const server = await startEmbeddedServer({ binary, folder, identity });
  started.defer(() => server.stop());
  const role = { kind: "coordinator" } as const;
  const user = createUser();
  const token = await userToken(farm, role, user);
  const signIn = { token, seed: user.getSeed(), inbox: inboxOf(role) };
  const connection = await connect(server.url, "flashyard restore", signIn);
  started.defer(() => connection.close());
  const running = started.move();
  return { connection, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
