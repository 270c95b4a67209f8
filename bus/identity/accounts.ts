/** What the farm's operator says to a NATS server: which accounts there are, and who may do what in them. */
import { createUser, fromPublic, type KeyPair } from "@nats-io/nkeys";
import { encodeAccount, encodeOperator, encodeUser, type Account, type Export, type Import } from "@nats-io/jwt";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";
import {
  edgeServices,
  farmMessages,
  farmServices,
  type FarmRole,
  type FarmService,
  permissionsOf,
} from "#bus/identity/permissions.ts";

const unlimited = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: 0 };
const unlimitedStorage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };

/** Users whose right to connect has ended, by public key: those who signed in before this second (since 1970). */
export type Revocations = Readonly<Record<string, number>>;

/** A farm's tokens, each signed by the one above: operator, its accounts, and a user of one of them. */
export interface FarmTokens {
  readonly operator: string;
  readonly system: string;
  readonly farm: string;
  readonly edge: string;
  /** Of whoever has not signed in: it may ask to be paired. */
  readonly stranger: string;
}

export async function farmTokens(keys: FarmKeys, revocations: Revocations): Promise<FarmTokens> {
  const signed = { signer: keys.operator };
  const [operator, system, farm, edge, stranger] = await Promise.all([
    encodeOperator("flashyard", keys.operator, { system_account: keys.system.getPublicKey() }),
    encodeAccount("SYS", keys.system, { limits: unlimited }, signed),
    farmToken(keys),
    edgeToken(keys, revocations),
    // Its key is thrown away: it is a bearer's.
    userToken(keys, { kind: "stranger" }, createUser()),
  ]);
  return { operator, system, farm, edge, stranger };
}

function farmToken(keys: FarmKeys): Promise<string> {
  const edge = keys.edge.getPublicKey();
  const account: Partial<Account> = {
    limits: { ...unlimited, ...unlimitedStorage },
    exports: [
      ...farmServices.map(exported),
      ...farmMessages.map((subject): Export => ({ name: subject, subject, type: "stream" })),
    ],
    imports: edgeServices.map((service) => imported(service, edge)),
  };
  return encodeAccount("FARM", keys.farm, account, { signer: keys.operator });
}

export function edgeToken(keys: FarmKeys, revocations: Revocations): Promise<string> {
  const farm = keys.farm.getPublicKey();
  const account: Partial<Account> = {
    limits: unlimited,
    exports: edgeServices.map(exported),
    imports: [
      ...farmServices.map((service) => imported(service, farm)),
      ...farmMessages.map((subject): Import => ({ name: subject, subject, account: farm, type: "stream" })),
    ],
    revocations,
  };
  return encodeAccount("EDGE", keys.edge, account, { signer: keys.operator });
}

function exported({ name, subject, isStream }: FarmService): Export {
  return { name, subject, type: "service", response_type: isStream === true ? "Stream" : "Singleton" };
}

function imported({ name, subject, edgeSubject }: FarmService, account: string): Import {
  return {
    name,
    subject,
    account,
    type: "service",
    ...(edgeSubject === undefined ? {} : { local_subject: edgeSubject }),
  };
}

/**
 * Signs somebody in to the account of their role. @param user holds the public key at least
 * @param expiresAt seconds since 1970; absent: never
 */
export function userToken(keys: FarmKeys, role: FarmRole, user: KeyPair, expiresAt?: number): Promise<string> {
  const { publish, subscribe, respond } = permissionsOf(role);
  const isOfFarm = role.kind === "coordinator" || role.kind === "admin";
  const isStranger = role.kind === "stranger";
  return encodeUser(
    nameOf(role),
    fromPublic(user.getPublicKey()),
    isOfFarm ? keys.farm : keys.edge,
    {
      pub: { allow: [...publish] },
      sub: { allow: [...subscribe] },
      ...(respond === undefined ? {} : { resp: { max: respond.max, ttl: respond.ms * 1_000_000 } }),
      subs: isStranger ? 4 : -1,
      data: -1,
      payload: isStranger ? strangerPayloadMax : -1,
      bearer_token: isStranger,
    },
    expiresAt === undefined ? {} : { exp: expiresAt },
  );
}

/** Of the account of NATS itself, to say to the servers what has become of an account; good for a minute. */
export async function systemToken({
  system,
}: FarmKeys): Promise<{ readonly token: string; readonly seed: Uint8Array }> {
  const user = createUser();
  const permissions = { pub: { allow: ["$SYS.REQ.CLAIMS.UPDATE"] }, sub: { allow: ["_INBOX_system.>"] } };
  const exp = Math.floor(Date.now() / 1_000) + 60;
  const token = await encodeUser("coordinator", fromPublic(user.getPublicKey()), system, permissions, { exp });
  return { token, seed: user.getSeed() };
}

/** A request to be paired has less than a kilobyte. */
const strangerPayloadMax = 8_192;

function nameOf(role: FarmRole): string {
  switch (role.kind) {
    case "coordinator":
    case "stranger":
      return role.kind;
    case "admin":
      return `admin ${role.name}`;
    case "agent":
      return `${role.lane} ${role.agent}`;
  }
}

/**
 * The lines of a server's configuration by which it knows the farm. What it hears of accounts later lies in `folder`.
 * (docs.nats.io, JWT-based authentication: full resolver; `default_sentinel` is the user of those who bring none.)
 */
export function operatorLines(keys: FarmKeys, tokens: FarmTokens, folder: string): readonly string[] {
  const preloaded = (["system", "farm", "edge"] as const).map(
    (name) => `${keys[name].getPublicKey()}: ${tokens[name]}`,
  );
  return [
    `operator: ${tokens.operator}`,
    `system_account: ${keys.system.getPublicKey()}`,
    `default_sentinel: ${tokens.stranger}`,
    `resolver: { type: full, dir: ${JSON.stringify(folder)}, allow_delete: false, interval: "2m" }`,
    `resolver_preload: { ${preloaded.join(", ")} }`,
  ];
}
