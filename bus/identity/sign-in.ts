/** Connecting as whoever some credentials are of; without any, as nobody, which an open farm on loopback takes. */
import { UsageError } from "#protocol/errors.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { type Credentials, readCredentials, type Role, signInOf } from "#bus/identity/credentials.ts";

export interface SignInOptions {
  /** The file of credentials; it may be missing, and absent is as missing. */
  readonly path?: string | undefined;
  /** Servers that the user has named; absent: those of the credentials, or else this machine's. */
  readonly servers?: string | undefined;
  /** What the connection is called in the server's lists. */
  readonly name: string;
}

export interface SignedIn {
  readonly connection: Connection;
  readonly servers: string;
  readonly credentials: Credentials | undefined;
}

export const defaultServers = "nats://127.0.0.1:4222";

/** Whom a process would sign in as, and where. @throws UsageError `bad-credentials` */
export async function identityIn({ path, servers }: Pick<SignInOptions, "path" | "servers">): Promise<{
  readonly servers: string;
  readonly credentials: Credentials | undefined;
}> {
  const credentials = path === undefined ? undefined : await readCredentials(path);
  return { servers: servers ?? credentials?.servers ?? defaultServers, credentials };
}

/** @throws as `connect` and `readCredentials` */
export async function signIn(options: SignInOptions): Promise<SignedIn> {
  const { servers, credentials } = await identityIn(options);
  const signedIn = credentials === undefined ? undefined : signInOf(credentials);
  return { connection: await connect(servers, options.name, signedIn), servers, credentials };
}

/** @throws UsageError `other-credentials` when they are somebody else's */
export function requireRole(credentials: Credentials | undefined, path: string, wanted: Role): void {
  if (credentials === undefined) return;
  const [has, wants] = [describeRole(credentials.role), describeRole(wanted)];
  if (has === wants) return;
  throw new UsageError(
    "other-credentials",
    `the credentials in ${path} are those of ${has}, and this is ${wants}: name the right file in FLASHYARD_CREDENTIALS`,
  );
}

/** As it stands in sentences. */
export function describeRole(role: Role): string {
  switch (role.kind) {
    case "coordinator":
      return "a coordinator";
    case "admin":
      return `the admin ${role.name}`;
    case "agent":
      return `the ${role.lane} agent ${role.agent}`;
  }
}
