/**
 * What somebody signs in to a farm with, in one file that only its owner reads (`secret-file.ts`).
 *
 * 1. Secret keys were made where they are used, and leave that process for this file only.
 */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { AgentId } from "#protocol/ids.ts";
import { Lane } from "#protocol/job.ts";
import { SealKey } from "#protocol/pairing.ts";
import { inboxOf, nameInRequests } from "#bus/identity/permissions.ts";
import { readSecretFile, replaceSecretFile } from "#bus/identity/secret-file.ts";
import type { SignIn } from "#bus/connection.ts";

export const Role = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("coordinator") }),
  z.object({ kind: z.literal("admin"), name: z.string().regex(/^[a-z0-9-]{1,40}$/) }),
  z.object({ kind: z.literal("agent"), agent: AgentId, lane: Lane }),
]);
export type Role = z.infer<typeof Role>;

export const Credentials = z.object({
  v: z.literal(1),
  role: Role,
  /** As FLASHYARD_NATS_URL, which goes before it. */
  servers: z.string().max(1000),
  /** The user's JWT, and the seed of its NKey. */
  token: z.string().max(16_384),
  seed: z.string().regex(/^SU[A-Z2-7]{56}$/),
  farm: z.object({
    /** SHA-256 of the authority's public key (SPKI, DER), hexadecimal. */
    pin: z.string().regex(/^[0-9a-f]{64}$/),
    /** The authority's certificate, PEM: whoever offers TLS shows one that it has signed. */
    authority: z.string().max(4_000),
    /** To it secrets are sealed. */
    seal: SealKey,
  }),
  /** An agent's X25519, PKCS #8 in PEM: what it receives is sealed to it. */
  unseal: z.string().max(500).optional(),
});
export type Credentials = z.infer<typeof Credentials>;

/** @returns undefined where there is no file. @throws UsageError `bad-credentials` for one that is none or that others may read */
export async function readCredentials(path: string): Promise<Credentials | undefined> {
  const file = await readSecretFile(path, unusable);
  if (file === undefined) return undefined;
  const read = Credentials.safeParse(file.found);
  if (!read.success) throw unusable(path, "it is damaged, or of another version; join the farm anew");
  return read.data;
}

/** @throws UsageError `bad-credentials` for the disk */
export async function writeCredentials(path: string, credentials: Credentials): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await replaceSecretFile(path, `${JSON.stringify(credentials, undefined, 2)}\n`);
  } catch (error) {
    throw unusable(path, messageOf(error));
  }
}

export function signInOf({ role, token, seed, farm }: Credentials): SignIn {
  const name = nameInRequests(role);
  return {
    token,
    seed: new TextEncoder().encode(seed),
    inbox: inboxOf(role),
    authority: farm.authority,
    ...(name === undefined ? {} : { name }),
  };
}

function unusable(path: string, reason: string): UsageError {
  return new UsageError("bad-credentials", `the credentials in ${path} cannot be used: ${reason}`);
}
