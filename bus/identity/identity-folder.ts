/**
 * A farm's identity on disk: `keys.json`, which is the farm; `coordinator.json` and `admin.json`, with which its own processes and its
 * people sign in.
 *
 * 1. What is there and fits is kept: whoever has copied credentials elsewhere goes on with them.
 */
import { createPublicKey } from "node:crypto";
import { join } from "node:path";
import { createUser } from "@nats-io/nkeys";
import { userName } from "#actor/person.ts";
import { type FarmTokens, farmTokens, userToken } from "#bus/identity/accounts.ts";
import { authorityCertificate, pinOf } from "#bus/identity/authority.ts";
import { type Credentials, readCredentials, type Role, writeCredentials } from "#bus/identity/credentials.ts";
import { coordinatorFile, keysFile } from "#bus/identity/farm-identity.ts";
import { type FarmKeys, farmKeysIn } from "#bus/identity/farm-keys.ts";

export interface IdentityFolder {
  readonly folder: string;
  readonly keys: FarmKeys;
  readonly tokens: FarmTokens;
  /** Files. */
  readonly coordinator: string;
  readonly admin: string;
  /** What every member of the farm knows of it. */
  readonly farm: Credentials["farm"];
}

/** @param servers as FLASHYARD_NATS_URL. @throws UsageError `bad-keys`, `bad-credentials` */
export async function identityFolder(folder: string, servers: string): Promise<IdentityFolder> {
  const keys = await farmKeysIn(keysFile(folder));
  const [tokens, farm] = await Promise.all([farmTokens(keys, {}), farmOf(keys)]);
  const [coordinator, admin] = [coordinatorFile(folder), join(folder, "admin.json")];
  await keepCredentials(coordinator, keys, { role: { kind: "coordinator" }, servers, farm });
  await keepCredentials(admin, keys, { role: { kind: "admin", name: personName() }, servers, farm });
  return { folder, keys, tokens, coordinator, admin, farm };
}

export async function farmOf(keys: FarmKeys): Promise<Credentials["farm"]> {
  const { x = "" } = createPublicKey(keys.seal).export({ format: "jwk" });
  return { pin: pinOf(keys), authority: await authorityCertificate(keys), seal: x };
}

type Member = Pick<Credentials, "servers" | "farm"> & { readonly role: Exclude<Role, { readonly kind: "agent" }> };

/** Invariant 1: of the same farm, at the same servers; a person may be called otherwise. */
async function keepCredentials(path: string, keys: FarmKeys, member: Member): Promise<void> {
  const found = await readCredentials(path);
  const isSame = found?.farm.pin === member.farm.pin && found.servers === member.servers;
  if (!isSame) await newCredentials(path, keys, member);
}

/** Makes somebody's keys, signs them in, and writes both to a file. @throws UsageError `bad-credentials` */
export async function newCredentials(path: string, keys: FarmKeys, member: Member): Promise<void> {
  const user = createUser();
  const token = await userToken(keys, member.role, user);
  const seed = new TextDecoder().decode(user.getSeed());
  await writeCredentials(path, { v: 1, ...member, token, seed });
}

/** Whoever runs this process, as a name that a subject may hold. */
function personName(): string {
  const name = userName()
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .slice(0, 40);
  return name === "" ? "admin" : name;
}
