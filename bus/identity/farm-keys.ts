/**
 * The secret keys of a farm, in one file that only its owner reads. Whoever has it is the farm: it signs in agents and people.
 *
 * 1. The file is whole or not there, and is made once: of two that make one at the same time, both go on with the same.
 * 2. The keys never leave this process but for that file.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { createAccount, createOperator, fromSeed, type KeyPair } from "@nats-io/nkeys";
import { z } from "zod";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { createSecretFile, readSecretFile } from "#bus/identity/secret-file.ts";

const Seed = z.string().regex(/^S[OA][A-Z2-7]{56}$/);

const PrivateKey = z.string().startsWith("-----BEGIN PRIVATE KEY-----").max(500);

const StoredKeys = z.object({
  v: z.literal(1),
  operator: Seed,
  /** Accounts: NATS's own events, the state of the farm, its agents. */
  system: Seed,
  farm: Seed,
  edge: Seed,
  /** PKCS #8: P-256, which signs certificates and proofs, and X25519, to which secrets are sealed. */
  authority: PrivateKey,
  seal: PrivateKey,
  /** 32 bytes in base64, from which the keys of stored contents follow. */
  store: z.base64().length(44),
});
type StoredKeys = z.infer<typeof StoredKeys>;

const keyNames = ["operator", "system", "farm", "edge"] as const;

export interface FarmKeys extends Readonly<Record<(typeof keyNames)[number], KeyPair>> {
  /** P-256. The farm's certificate authority; SHA-256 of its public key (SPKI, DER) is the farm's pin. */
  readonly authority: KeyObject;
  /** X25519. Secrets on their way to an agent are sealed to the farm first. */
  readonly seal: KeyObject;
  /** 32 bytes. */
  readonly store: Buffer;
}

/** The farm's keys, made where there are none yet. @throws UsageError `bad-keys` for a file that is none of ours or that others may read */
export async function farmKeysIn(path: string): Promise<FarmKeys> {
  const found = await readFarmKeys(path);
  if (found !== undefined) return found;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // Fails where somebody was faster, and their keys are the farm's.
  await createSecretFile(path, `${JSON.stringify(newKeys(), undefined, 2)}\n`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw unusable(path, messageOf(error));
  });
  const made = await readFarmKeys(path);
  if (made === undefined) throw unusable(path, "it was removed at once");
  return made;
}

/** @returns undefined where there are none. @throws UsageError `bad-keys` */
export async function readFarmKeys(path: string): Promise<FarmKeys | undefined> {
  const file = await readSecretFile(path, unusable);
  if (file === undefined) return undefined;
  const stored = StoredKeys.safeParse(file.found);
  if (!stored.success) throw unusable(path, "it is damaged, or of another version; restore it from a backup");
  const { data } = stored;
  const pair = (name: (typeof keyNames)[number]) => fromSeed(new TextEncoder().encode(data[name]));
  return {
    operator: pair("operator"),
    system: pair("system"),
    farm: pair("farm"),
    edge: pair("edge"),
    authority: createPrivateKey(data.authority),
    seal: createPrivateKey(data.seal),
    store: Buffer.from(data.store, "base64"),
  };
}

function newKeys(): StoredKeys {
  const seed = (pair: KeyPair) => new TextDecoder().decode(pair.getSeed());
  return {
    v: 1,
    operator: seed(createOperator()),
    system: seed(createAccount()),
    farm: seed(createAccount()),
    edge: seed(createAccount()),
    authority: pem(generateKeyPairSync("ec", { namedCurve: "prime256v1" })),
    seal: pem(generateKeyPairSync("x25519")),
    store: randomBytes(32).toString("base64"),
  };
}

function pem({ privateKey }: { readonly privateKey: KeyObject }): string {
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

function unusable(path: string, reason: string): UsageError {
  return new UsageError("bad-keys", `the farm's keys in ${path} cannot be used: ${reason}`);
}
