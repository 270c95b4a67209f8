/** This machine: what every role needs of it. */
import { access, constants, mkdir, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { automaticSlots, type Machine } from "#actor/agent-settings.ts";
import { messageOf } from "#protocol/errors.ts";
import { type Check, ok, problem, warning } from "#cli/doctor/check.ts";
import { size } from "#cli/render.ts";

const nodeMajorMin = 24;

/** Pure. */
export function checkNode(version: string): Check {
  const isNew = Number(/^v?(\d+)/.exec(version)?.[1]) >= nodeMajorMin;
  if (isNew) return ok("Node.js", version);
  const fix = `install Node.js ${nodeMajorMin} or newer: it runs flashyard's TypeScript as it is`;
  return problem("Node.js", version, fix);
}

/** An environment takes 0.3 GB, the toolchain of one chip family up to 2 GB. */
const diskWarningBytes = 4e9;
const diskProblemBytes = 0.5e9;

/** Pure. @param variable that names another folder */
export function checkSpace(name: string, folder: string, freeBytes: number, variable: string): Check {
  const text = `${size(freeBytes)} at ${folder}`;
  const fix = `free some space, or name a folder on another disk in ${variable}`;
  if (freeBytes >= diskWarningBytes) return ok(name, text);
  return (freeBytes < diskProblemBytes ? problem : warning)(name, text, fix);
}

/** Free bytes where a folder is, or will be: it is made when it is needed. Throws what the file system throws. */
export async function freeBytesAt(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || dirname(folder) === folder) throw error;
    return freeBytesAt(dirname(folder));
  }
}

export async function checkFolderSpace(name: string, folder: string, variable: string): Promise<Check> {
  try {
    return checkSpace(name, folder, await freeBytesAt(folder), variable);
  } catch (error) {
    return problem(name, `${folder}: ${messageOf(error)}`, `name another folder in ${variable}`);
  }
}

export async function checkCache(folder: string): Promise<Check> {
  const name = "cache";
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK | constants.X_OK);
    return ok(name, `${folder} can be written to`);
  } catch (error) {
    const fix = "give the folder to this user, or name another one in FLASHYARD_CACHE";
    return problem(name, `${folder}: ${messageOf(error)}`, fix);
  }
}

/** A build for an ESP32 needs 1 to 2 GB. */
const slotBytesMin = 2e9;

/** Pure. @param slots FLASHYARD_SLOTS, where a person has set them */
export function checkMemory(machine: Machine, slots = automaticSlots("compile", machine)): Check {
  const perSlot = machine.memoryBytes / slots;
  const found = `${size(machine.memoryBytes)} for ${slots} build slot${slots === 1 ? "" : "s"}`;
  if (perSlot >= slotBytesMin) return ok("memory", found);
  const fix =
    slots > 1
      ? "set FLASHYARD_SLOTS lower: a build for an ESP32 needs 1 to 2 GB"
      : "add swap, or build on another machine: a build for an ESP32 needs 1 to 2 GB";
  return warning("memory", found, fix);
}
