/** `flashyard doctor`: what is missing for a farm that works, and what to do about it. */
import { basename, join } from "node:path";
import { credentialsFile, thisMachine } from "#actor/agent-settings.ts";
import { checkAgents, checkDevices } from "#cli/doctor/agents.ts";
import { type Check, failedCheck } from "#cli/doctor/check.ts";
import { checkStatus } from "#cli/doctor/coordinator.ts";
import { checkFlashing } from "#cli/doctor/flashing.ts";
import { checkCredentials, checkFarmKeys } from "#cli/doctor/identity.ts";
import { checkCache, checkFolderSpace, checkMemory, checkNode } from "#cli/doctor/machine.ts";
import type { DoctorRole } from "#cli/command-options.ts";
import { findRoles, type FoundRoles } from "#cli/doctor/roles.ts";
import { checkNats } from "#cli/doctor/server.ts";
import { checkBuildTools, checkEsphome } from "#cli/doctor/tools.ts";
import { padded, shown, widthOf } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import type { Colour } from "#cli/job-sentence.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import type { Terminal } from "#cli/terminal.ts";

const colours: Readonly<Record<Check["state"], Colour>> = { ok: "green", warning: "yellow", problem: "red" };

export interface DoctorOptions {
  readonly json?: boolean;
  /** Absent: what this machine is found to have. */
  readonly role?: DoctorRole;
}

export async function runDoctor(session: Session, { json: isJson = false, role }: DoctorOptions): Promise<ExitCode> {
  const { terminal } = session;
  const found = await findRoles(session, role);
  const [identity, farm, machine] = await Promise.all([
    checkIdentity(session, found),
    checkFarm(session),
    checkMachine(session, found),
  ]);
  const checks = [...machine, ...identity, ...farm];
  if (isJson) for (const check of checks) terminal.json(check);
  else showChecks(terminal, checks);
  return checks.some(({ state }) => state === "problem") ? exitCodes.failed : exitCodes.done;
}

/** Everything that is asked of the farm; where one thing is missing, what builds on it is left out. */
async function checkFarm(session: Session): Promise<readonly Check[]> {
  let farm: Farm;
  try {
    farm = await Farm.open(session);
  } catch (error) {
    return [failedCheck("farm", error, "start one with `flashyard up`, or name its server with --server")];
  }
  await using opened = farm;
  const { checks, isFit } = await checkNats(opened, session.clock.now());
  if (!isFit) return checks;
  const askedAt = session.clock.now();
  try {
    const status = await opened.ask({ v: 1, kind: "status" }, "status");
    const answered = checkStatus(status, askedAt, session.clock.now());
    const { agents } = await opened.ask({ v: 1, kind: "agents" }, "agents");
    const devices = await opened.ask({ v: 1, kind: "devices" }, "devices");
    return [...checks, ...answered, ...checkAgents(agents), ...checkDevices(devices)];
  } catch (error) {
    return [...checks, failedCheck("coordinator", error, "start one with `flashyard up`, or look into its log")];
  }
}

async function checkIdentity(session: Session, { homes, identities }: FoundRoles): Promise<readonly Check[]> {
  const now = session.clock.now();
  const own = await checkCredentials(session.credentials, now, false);
  const agents = await Promise.all(
    homes.map((home) => checkCredentials(credentialsFile(home), now, true, ` of ${basename(home)}`)),
  );
  const keys = await Promise.all(identities.map(checkFarmKeys));
  return [...own, ...agents.flat(), ...keys.flat()];
}

async function checkMachine(session: Session, { roles, identities }: FoundRoles): Promise<readonly Check[]> {
  const { cacheFolder, environment, interrupted } = session;
  const slots = /^[1-9]\d{0,2}$/.test(environment["FLASHYARD_SLOTS"] ?? "")
    ? Number(environment["FLASHYARD_SLOTS"])
    : undefined;
  const builds = roles.has("compile");
  const parts = [
    Promise.all([checkFolderSpace("free disk", cacheFolder, "FLASHYARD_CACHE"), checkCache(cacheFolder)]),
    ...(builds || roles.has("admin") ? [checkEsphome(session), checkBuildTools(interrupted)] : []),
    ...(roles.has("upload") ? [checkFlashing(environment, interrupted)] : []),
    Promise.all(identities.map((folder) => checkFolderSpace("store's disk", join(folder, ".."), "FLASHYARD_HOME"))),
  ];
  const memory = builds ? [checkMemory(thisMachine(), slots)] : [];
  return [checkNode(process.version), ...memory, ...(await Promise.all(parts)).flat()];
}

function showChecks(terminal: Terminal, checks: readonly Check[]): void {
  const width = Math.max(...checks.map(({ name }) => widthOf(name)));
  for (const { name, state, found, fix } of checks) {
    terminal.line(`${terminal.paint(colours[state], state.padEnd(7))}  ${padded(name, width)}  ${shown(found)}`);
    if (fix !== undefined) terminal.line(`${" ".repeat(width + 11)}${shown(fix)}`);
  }
  const problems = checks.filter(({ state }) => state === "problem").length;
  terminal.line(problems === 0 ? "the farm can work" : `${count(problems, "problem")} to solve`);
}
