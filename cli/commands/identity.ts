/** `flashyard identity`: who a farm is, for NATS servers that `flashyard up` does not run. Nothing of it asks the farm. */
import { isIP } from "node:net";
import { join } from "node:path";
import { UsageError } from "#protocol/errors.ts";
import { readCredentials } from "#bus/identity/credentials.ts";
import { coordinatorFile, keysFile } from "#bus/identity/farm-identity.ts";
import { readFarmKeys } from "#bus/identity/farm-keys.ts";
import { farmTokens } from "#bus/identity/accounts.ts";
import { farmOf, identityFolder, newCredentials } from "#bus/identity/identity-folder.ts";
import { hostsOfServers, type ServerFolder, writeServerFolder } from "#bus/identity/server-folder.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import type { Session } from "#cli/session.ts";

export interface IdentityOptions {
  readonly folder: string;
}

export interface InitOptions extends IdentityOptions {
  /** Of each server: names and addresses, the one that everybody uses first. */
  readonly host: readonly (readonly [string, ...string[]])[];
  readonly port?: number;
}

const defaultPort = 4222;

export async function runIdentityInit(session: Session, options: InitOptions): Promise<ExitCode> {
  const { folder, host, port = defaultPort } = options;
  const servers = host.map(([name]) => `tls://${isIP(name) === 6 ? `[${name}]` : name}:${port}`).join(",");
  const identity = await identityFolder(folder, servers);
  session.terminal.line(
    `the farm with the pin ${identity.farm.pin} is in ${folder}: keep a copy of keys.json elsewhere`,
  );
  for (const hosts of host) {
    const { path, ...made } = await writeServerFolder({ ...identity, hosts, now: session.clock.now() });
    session.terminal.line(`${serverLine(hosts, made)}: copy ${path}/ to /etc/flashyard/nats/ on it`);
  }
  session.terminal.line(`coordinators: copy ${folder}/keys.json and coordinator.json to /etc/flashyard/identity/`);
  session.terminal.line(`your command line: export FLASHYARD_CREDENTIALS=${identity.admin}`);
  session.terminal.line(`more people: flashyard identity admin NAME; agents are paired (flashyard agent pair)`);
  return exitCodes.done;
}

export async function runIdentityRenew(session: Session, { folder }: IdentityOptions): Promise<ExitCode> {
  const keys = await keysIn(folder);
  const tokens = await farmTokens(keys, {});
  const servers = await hostsOfServers(folder);
  if (servers.length === 0) {
    throw new UsageError("no-servers", `no server has a certificate in ${folder}/nats: \`flashyard identity init\``);
  }
  for (const hosts of servers) {
    const renewal = { folder, keys, tokens, hosts, isRenewal: true, now: session.clock.now() };
    const { path, ...made } = await writeServerFolder(renewal);
    session.terminal.line(
      `${serverLine(hosts, made)}: copy ${path}/ to /etc/flashyard/nats/ on it, and there: systemctl reload flashyard-nats`,
    );
  }
  return exitCodes.done;
}

export async function runIdentityAdmin(session: Session, name: string, { folder }: IdentityOptions): Promise<ExitCode> {
  const keys = await keysIn(folder);
  const coordinator = await readCredentials(coordinatorFile(folder));
  if (coordinator === undefined) {
    throw new UsageError("no-credentials", `there is no coordinator.json in ${folder}: \`flashyard identity init\``);
  }
  const path = join(folder, `admin-${name}.json`);
  if ((await readCredentials(path)) !== undefined) {
    throw new UsageError("name-taken", `${path} is there already: give it to ${name}, or choose another name`);
  }
  await newCredentials(path, keys, {
    role: { kind: "admin", name },
    servers: coordinator.servers,
    farm: await farmOf(keys),
  });
  session.terminal.line(`${path}: give it to ${name}, whose command line finds it by FLASHYARD_CREDENTIALS`);
  return exitCodes.done;
}

async function keysIn(folder: string) {
  const keys = await readFarmKeys(keysFile(folder));
  if (keys !== undefined) return keys;
  throw new UsageError("no-identity", `there is no keys.json in ${folder}: \`flashyard identity init\` makes a farm`);
}

function serverLine(hosts: readonly string[], { certificate, expiresAt }: Omit<ServerFolder, "path">): string {
  const until = new Date(expiresAt).toISOString().slice(0, 10);
  return `server ${hosts.join(", ")}: certificate ${certificate}, good until ${until}`;
}
