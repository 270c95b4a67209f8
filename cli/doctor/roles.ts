/** Which roles of a farm this machine has: what lies in the folders, and what the environment says. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { credentialsFile, defaultHome } from "#actor/agent-settings.ts";
import { UsageError } from "#protocol/errors.ts";
import { readCredentials } from "#bus/identity/credentials.ts";
import { keysFolder } from "#cli/backup/keys-folder.ts";
import type { DoctorRole } from "#cli/command-options.ts";
import type { Session } from "#cli/session.ts";

export interface FoundRoles {
  readonly roles: ReadonlySet<DoctorRole>;
  /** Of agents. */
  readonly homes: readonly string[];
  /** Folders with a farm's keys. */
  readonly identities: readonly string[];
}

/** Whoever asks is an admin. A machine with a farm of its own has all roles. */
export async function findRoles(session: Session, wanted?: DoctorRole): Promise<FoundRoles> {
  const home = defaultHome(session.environment);
  const identity = keysFolder(session.environment);
  // Those of a farm on this machine, and those that have joined one elsewhere.
  const locals = (await Promise.all([join(home, "farm", "agents"), home].map(foldersIn))).flat();
  const named = session.environment["FLASHYARD_HOME"];
  const possible = [...locals, ...(named === undefined ? [] : [named])];
  const withKeys = await Promise.all(possible.map((folder) => has(folder, "credentials.json")));
  // Whoever says that this is an agent's machine hears that its credentials are missing.
  const isAgent = wanted === "compile" || wanted === "upload";
  const homes = possible.filter((folder, index) => withKeys[index] === true || (isAgent && folder === named));
  const identities = (await has(identity, "keys.json")) ? [identity] : [];
  const lanes = await Promise.all([session.credentials, ...homes.map(credentialsFile)].map(laneIn));
  const roles = new Set<DoctorRole>([
    "admin",
    ...lanes.filter((lane) => lane !== undefined),
    ...(identities.length > 0 ? (["coordinator"] as const) : []),
  ]);
  return { roles: wanted === undefined ? roles : new Set([wanted]), homes, identities };
}

async function foldersIn(folder: string): Promise<readonly string[]> {
  return (await readdir(folder).catch((): string[] => [])).map((name) => join(folder, name));
}

async function has(folder: string, name: string): Promise<boolean> {
  return (await readdir(folder).catch((): string[] => [])).includes(name);
}

/** Of what cannot be used, another check speaks. */
async function laneIn(path: string) {
  try {
    const role = (await readCredentials(path))?.role;
    return role?.kind === "agent" ? role.lane : undefined;
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
}
