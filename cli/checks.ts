/** What `flashyard doctor` looks at on this machine and in the farm; each check is a fact with its judgement. */
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { describeFailure } from "#protocol/failure.ts";
import { isFarmError, messageOf } from "#protocol/errors.ts";
import type { Lane } from "#protocol/job.ts";
import { farmVersion } from "#protocol/version.ts";
import { chainsAllowAtomic } from "#bus/farm-client.ts";
import { checkServer } from "#bus/server-check.ts";
import { serverVersionMin } from "#bus/server-version.ts";
import { checkCompiler } from "#toolchain/compiler.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { choosePython, findPythons, requiredPython } from "#toolchain/python.ts";
import { type AnswerOf, Farm } from "#cli/farm.ts";
import { duration, size } from "#cli/render.ts";
import { defaultEsphomeVersion, type Session } from "#cli/session.ts";

export interface Check {
  readonly name: string;
  readonly state: "ok" | "warning" | "problem";
  /** What was found. */
  readonly found: string;
  /** What to do about it, in one sentence; absent when all is well. */
  readonly fix?: string;
}

const ok = (name: string, found: string): Check => ({ name, state: "ok", found });
const warning = (name: string, found: string, fix: string): Check => ({ name, state: "warning", found, fix });
const problem = (name: string, found: string, fix: string): Check => ({ name, state: "problem", found, fix });

const nodeMajorMin = 24;

export function checkNode(version: string): Check {
  const isNew = Number(/^v?(\d+)/.exec(version)?.[1]) >= nodeMajorMin;
  if (isNew) return ok("Node.js", version);
  return problem(
    "Node.js",
    version,
    `install Node.js ${nodeMajorMin} or newer: it runs flashyard's TypeScript as it is`,
  );
}

/** Everything that is asked of the farm; where one thing is missing, what builds on it is left out. */
export async function checkFarm(session: Session): Promise<readonly Check[]> {
  let farm: Farm;
  try {
    farm = await Farm.open(session);
  } catch (error) {
    return [failedCheck("farm", error, "start one with `flashyard up`, or name its server with --server")];
  }
  await using opened = farm;
  const version = opened.connection.info?.version ?? "of an unknown version";
  try {
    await checkServer(opened.connection);
  } catch (error) {
    return [
      failedCheck(
        "NATS server",
        error,
        `run nats-server ${serverVersionMin} or newer with JetStream, or \`flashyard up\``,
      ),
    ];
  }
  const checks = [ok("NATS server", `${version} with JetStream`)];
  checks.push(await checkBatches(opened));
  const askedAt = session.clock.now();
  try {
    const status = await opened.ask({ v: 1, kind: "status" }, "status");
    checks.push(...checkStatus(status, askedAt, session.clock.now()));
    const { agents } = await opened.ask({ v: 1, kind: "agents" }, "agents");
    checks.push(checkLane(agents, "compile"), checkLane(agents, "upload"));
  } catch (error) {
    checks.push(failedCheck("coordinator", error, "start one with `flashyard up`, or look into its log"));
  }
  return checks;
}

async function checkBatches(farm: Farm): Promise<Check> {
  const name = "atomic batches";
  try {
    const isAllowed = await chainsAllowAtomic(farm.connection);
    if (isAllowed === true) return ok(name, "allowed on the chains");
    return isAllowed === undefined
      ? problem(name, "there are no chains yet", "start a coordinator: it makes what it needs")
      : problem(name, "not allowed on the chains", "start the coordinator again: it brings its streams up to date");
  } catch (error) {
    return failedCheck(name, error, "look into the server's log");
  }
}

/** Leases are counted by each process for itself, so clocks that differ only make the times that are shown wrong. */
const clockOffMsMax = 5_000;

/** Pure. @param askedAt and `answeredAt` on this machine's clock */
export function checkStatus(status: AnswerOf<"status">, askedAt: number, answeredAt: number): readonly Check[] {
  const { version, live, queueDepth, at } = status;
  const found = `${version}, ${live} chains live, ${queueDepth} jobs queued`;
  const coordinator =
    version === farmVersion
      ? ok("coordinator", found)
      : warning("coordinator", found, `this command line is ${farmVersion}: use the same version on all machines`);
  const off = at - (askedAt + answeredAt) / 2;
  const isOff = Math.abs(off) > clockOffMsMax + (answeredAt - askedAt) / 2;
  const clocks = `${duration(Math.abs(off))} apart from the coordinator's`;
  const fix = "set the clocks of both machines, e.g. with NTP: the times that are shown are wrong";
  return [coordinator, isOff ? warning("clock", clocks, fix) : ok("clock", clocks)];
}

/** Pure. */
export function checkLane(agents: AnswerOf<"agents">["agents"], lane: Lane): Check {
  const name = `${lane} agents`;
  const ofLane = agents.filter(({ announcement }) => announcement.lane === lane);
  const online = ofLane.filter((agent) => agent.online);
  const slots = online.reduce((sum, { announcement }) => sum + announcement.slots, 0);
  const names = online.map(({ announcement }) => announcement.agent).join(", ");
  if (slots > 0) return ok(name, `${names} with ${slots} slot${slots === 1 ? "" : "s"}`);
  const away = ofLane.map(({ announcement }) => announcement.agent).join(", ");
  const found = away === "" ? "none has announced itself" : online.length > 0 ? `${names}: closing` : `${away}: away`;
  return problem(name, found, `start one: \`flashyard up\`, or ${lane}-agent/main.ts on another machine`);
}

export async function checkToolchain(session: Session): Promise<readonly Check[]> {
  const { cacheFolder, clock, pythonHint, interrupted: signal } = session;
  const wanted = requiredPython(defaultEsphomeVersion);
  const environments = new EsphomeEnvironments({ cacheFolder, clock, pythonHint });
  const [ready, pythons, compiler] = await Promise.all([
    environments.ready(),
    findPythons({ hint: pythonHint, signal }),
    checkCompiler({ signal }),
  ]);
  const python = choosePython(pythons, wanted);
  const isReady = ready.includes(defaultEsphomeVersion);
  const tried = pythons.tried.length === 0 ? "none was found" : pythons.tried.join(", ");
  const pythonFix = `install Python ${wanted} with venv (Debian: apt install python3 python3-venv), or name one in FLASHYARD_PYTHON`;
  const environmentFix = "nothing: the first install makes it, which takes a minute and 300 MB";
  return [
    python === undefined
      ? (isReady ? warning : problem)("Python", `${wanted} is needed: ${tried}`, pythonFix)
      : ok("Python", `${python.version} (${python.path})`),
    isReady
      ? ok("ESPHome", `${defaultEsphomeVersion} is ready in ${cacheFolder}`)
      : warning("ESPHome", `${defaultEsphomeVersion} is not made yet in ${cacheFolder}`, environmentFix),
    compiler.ok
      ? ok("C++ compiler", compiler.version)
      : warning(
          "C++ compiler",
          compiler.aborted ? "not looked for" : describeFailure(compiler.failure),
          "install g++ if this machine is to build for the host platform; ESPHome brings the other compilers along",
        ),
    await checkDisk(cacheFolder),
  ];
}

/** An environment takes 0.3 GB, the toolchain of one chip family up to 2 GB. */
const diskWarningBytes = 4e9;
const diskProblemBytes = 0.5e9;

async function checkDisk(folder: string): Promise<Check> {
  const name = "free disk";
  const found = await statfs(folder).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    // The folder is made when it is needed; until then its parent says what there is.
    if (found.code === "ENOENT" && dirname(folder) !== folder) return checkDisk(dirname(folder));
    return problem(name, `${folder}: ${found.message}`, "name another folder in FLASHYARD_CACHE");
  }
  const free = found.bavail * found.bsize;
  const text = `${size(free)} at ${folder}`;
  const fix = "free some space, or name a folder on another disk in FLASHYARD_CACHE";
  if (free >= diskWarningBytes) return ok(name, text);
  return (free < diskProblemBytes ? problem : warning)(name, text, fix);
}

function failedCheck(name: string, error: unknown, fix: string): Check {
  if (!isFarmError(error)) throw error;
  return problem(name, messageOf(error), fix);
}
