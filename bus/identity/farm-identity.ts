/** What a coordinator knows its farm by: the farm's keys, and the credentials that it signs in with itself. */
import { join } from "node:path";
import { UsageError } from "#protocol/errors.ts";
import { type FarmKeys, readFarmKeys } from "#bus/identity/farm-keys.ts";

/** The files of a folder of a farm's identity. */
export const keysFile = (folder: string) => join(folder, "keys.json");
export const coordinatorFile = (folder: string) => join(folder, "coordinator.json");

export interface FarmIdentity {
  /** Absent: an open farm. */
  readonly keys?: FarmKeys;
  /** The file to sign in with; absent: as nobody. */
  readonly credentials?: string;
}

/**
 * FLASHYARD_IDENTITY is the folder with `keys.json`, and with `coordinator.json` where FLASHYARD_CREDENTIALS names no other file.
 * @throws UsageError `no-keys` when there are none in the folder, `bad-keys` when they cannot be used
 */
export async function farmIdentity(env: NodeJS.ProcessEnv): Promise<FarmIdentity> {
  const named = env["FLASHYARD_CREDENTIALS"];
  const folder = env["FLASHYARD_IDENTITY"];
  if (folder === undefined) return named === undefined ? {} : { credentials: named };
  const path = keysFile(folder);
  const keys = await readFarmKeys(path);
  if (keys !== undefined) return { keys, credentials: named ?? coordinatorFile(folder) };
  const message = `FLASHYARD_IDENTITY is ${folder}, and there is no ${path}: name the folder that \`flashyard up\` has made, <home>/identity, or restore it`;
  throw new UsageError("no-keys", message);
}
