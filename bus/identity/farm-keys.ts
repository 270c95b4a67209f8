/**
 * The secret keys of a farm, in one file that only its owner reads. Whoever has it is the farm: it signs in agents and people.
 *
 * 1. The file is whole or not there, and is made once: of two that make one at the same time, both go on with the same.
 * 2. The keys never leave this process but for that file.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { createAccount, createOperator, fromSeed, type KeyPair } from "@nats-io/nkeys";
import { z } from "zod";
import { messageOf, UsageError } from "#protocol/errors.ts";

const Seed = z.string().regex(/^S[OA][A-Z2-7]{56}$/);

const StoredKeys = z.object({
  v: z.literal(1),
  operator: Seed,
  /** Accounts: NATS's own events, the state of the farm, its agents. */
  system: Seed,
  farm: Seed,
  edge: Seed,
});
type StoredKeys = z.infer<typeof StoredKeys>;

const keyNames = ["operator", "system", "farm", "edge"] as const;
export type FarmKeys = Readonly<Record<(typeof keyNames)[number], KeyPair>>;

/** The farm's keys, made where there are none yet. @throws UsageError `bad-keys` for a file that is none of ours or that others may read */
export async function farmKeysIn(path: string): Promise<FarmKeys> {
  const found = await readFarmKeys(path);
  if (found !== undefined) return found;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${randomBytes(4).toString("hex")}`;
  await writeFile(draft, `${JSON.stringify(newKeys(), undefined, 2)}\n`, { mode: 0o600, flag: "wx" });
  try {
    // Fails where somebody was faster, and their keys are the farm's.
    await link(draft, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw unusable(path, messageOf(error));
    });
  } finally {
    await rm(draft, { force: true });
  }
  const made = await readFarmKeys(path);
  if (made === undefined) throw unusable(path, "it was removed at once");
  return made;
}

/** @returns undefined where there are none. @throws UsageError `bad-keys` */
export async function readFarmKeys(path: string): Promise<FarmKeys | undefined> {
  let text: string;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) throw unusable(path, `others may read it: \`chmod 600 ${path}\``);
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (error instanceof UsageError) throw error;
    throw unusable(path, messageOf(error));
  }
  const stored = StoredKeys.safeParse(parsed(text));
  if (!stored.success) throw unusable(path, "it is damaged, or of another version; restore it from a backup");
  const { data } = stored;
  return Object.fromEntries(
    keyNames.map((name) => [name, fromSeed(new TextEncoder().encode(data[name]))]),
  ) as unknown as FarmKeys;
}

function newKeys(): StoredKeys {
  const seed = (pair: KeyPair) => new TextDecoder().decode(pair.getSeed());
  return {
    v: 1,
    operator: seed(createOperator()),
    system: seed(createAccount()),
    farm: seed(createAccount()),
    edge: seed(createAccount()),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unusable(path: string, reason: string): UsageError {
  return new UsageError("bad-keys", `the farm's keys in ${path} cannot be used: ${reason}`);
}
