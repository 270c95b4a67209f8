/**
 * What a NATS server of the farm is configured with, for servers that `flashyard up` does not run: a folder for each machine, below
 * `nats/` of the identity's, which goes to `/etc/flashyard/nats/` there.
 *
 * 1. A certificate that is for the same names, of the same farm and good for a while is kept; any other is made again with its key.
 * 2. Each file is whole or as it was, and read by its owner only: one of them is a key.
 */
import { X509Certificate } from "node:crypto";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { type FarmTokens, operatorLines } from "#bus/identity/accounts.ts";
import { authorityCertificate, serverCertificate } from "#bus/identity/authority.ts";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";
import { replaceSecretFile } from "#bus/identity/secret-file.ts";

/** Where the units and images have NATS's store; the servers keep there what they hear of accounts later. */
export const accountsFolder = "/var/lib/flashyard/nats/accounts";

/** Whoever runs `identity init` again within the last month of a certificate gets a new one. */
const keptDays = 31;
const dayMs = 24 * 60 * 60_000;

export interface ServerFolderOptions {
  /** The identity's. */
  readonly folder: string;
  readonly keys: FarmKeys;
  readonly tokens: FarmTokens;
  /** Names and addresses under which the machine is reached; the first one names its folder. */
  readonly hosts: readonly [string, ...string[]];
  /** Whether a certificate that would be kept is made again as well. */
  readonly isRenewal?: boolean;
  /** On the server's machine. */
  readonly accounts?: string;
  /** Ms since 1970. */
  readonly now: number;
}

export interface ServerFolder {
  readonly path: string;
  readonly certificate: "kept" | "made";
  /** Ms since 1970. */
  readonly expiresAt: number;
}

/** @throws UsageError `bad-identity` for the disk */
export async function writeServerFolder(options: ServerFolderOptions): Promise<ServerFolder> {
  const { folder, keys, tokens, hosts, isRenewal = false, accounts = accountsFolder, now } = options;
  const path = join(folder, "nats", hosts[0]);
  const authority = await authorityCertificate(keys);
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await replaceSecretFile(join(path, "identity.conf"), `${operatorLines(keys, tokens, accounts).join("\n")}\n`);
    await replaceSecretFile(join(path, "authority.pem"), authority);
    const found = isRenewal ? undefined : await certificateIn(path);
    if (found !== undefined && isKept(found, hosts, authority, now)) {
      return { path, certificate: "kept", expiresAt: found.validToDate.getTime() };
    }
    const { certificate, key } = await serverCertificate(keys, hosts, now);
    await replaceSecretFile(join(path, "server.key"), key);
    await replaceSecretFile(join(path, "server.pem"), certificate);
    return { path, certificate: "made", expiresAt: new X509Certificate(certificate).validToDate.getTime() };
  } catch (error) {
    throw new UsageError("bad-identity", `the server's folder ${path} cannot be written: ${messageOf(error)}`);
  }
}

/** The names of every server that has a folder, as they were given. */
export async function hostsOfServers(folder: string): Promise<readonly (readonly [string, ...string[]])[]> {
  const names = await readdir(join(folder, "nats")).catch(() => []);
  const found = names
    .toSorted((a, b) => a.localeCompare(b))
    .map(async (name) => {
      const certificate = await certificateIn(join(folder, "nats", name));
      return certificate === undefined ? [] : [[name, ...hostsOf(certificate).slice(1)] as const];
    });
  return (await Promise.all(found)).flat();
}

/** Invariant 1. */
function isKept(found: X509Certificate, hosts: readonly string[], authority: string, now: number): boolean {
  const isOfFarm = found.verify(new X509Certificate(authority).publicKey);
  const isGood = found.validToDate.getTime() > now + keptDays * dayMs;
  const isFor = (host: string) => (isIP(host) === 0 ? found.checkHost(host) : found.checkIP(host)) !== undefined;
  return isOfFarm && isGood && hostsOf(found).length === hosts.length && hosts.every(isFor);
}

/** The first one is the folder's name. Addresses are written out: `FD00:0:0:0:0:0:0:1`. */
function hostsOf({ subjectAltName = "" }: X509Certificate): readonly string[] {
  return subjectAltName.split(", ").map((name) => name.replace(/^(DNS|IP Address):/, ""));
}

async function certificateIn(path: string): Promise<X509Certificate | undefined> {
  const text = await readFile(join(path, "server.pem")).catch(() => undefined);
  try {
    return text === undefined ? undefined : new X509Certificate(text);
  } catch {
    // Whatever it is, it is no certificate that could be kept.
    return undefined;
  }
}
