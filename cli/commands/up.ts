/** `flashyard up`: a whole farm on this machine until Ctrl-C. */
import { untilFired } from "#actor/until-fired.ts";
import { join } from "node:path";
import { automaticSlots, defaultHome, thisMachine } from "#actor/agent-settings.ts";
import { UsageError } from "#protocol/errors.ts";
import { agentVariables } from "#cli/agent-variables.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { localAgents } from "#cli/local-agents.ts";
import { type LocalFarm, startLocalFarm } from "#cli/local-farm.ts";
import { defaultServers } from "#bus/identity/sign-in.ts";
import type { Session } from "#cli/session.ts";

export interface UpOptions {
  readonly port?: number;
  readonly home?: string;
  readonly host?: readonly string[];
  readonly compile?: number;
  readonly slots?: number;
  readonly uploadSlots?: number;
  readonly logLevel?: string;
}

const defaultPort = 4222;
/** Over the air a flash waits for the device most of the time; more at once crowd a weak network. */
const defaultUploadSlots = 4;
const logLevels = ["trace", "debug", "info", "warn", "error"];

/** Returns when everything has been stopped in order; a flash that has begun is waited for. */
export async function runUp(session: Session, options: UpOptions): Promise<ExitCode> {
  const { terminal, interrupted, environment } = session;
  const home = options.home ?? join(defaultHome(environment), "farm");
  const logLevel = options.logLevel ?? environment["FLASHYARD_LOG"] ?? "info";
  if (!logLevels.includes(logLevel)) {
    throw new UsageError("bad-log-level", `${JSON.stringify(logLevel)} is no log level: use ${logLevels.join(", ")}`);
  }
  const hosts = options.host ?? [];
  if (hosts.length > 0 && session.servers !== undefined) {
    throw new UsageError("bad-option", "--host is for the farm's own NATS server, and another one is named");
  }
  const compile = options.compile ?? 1;
  // Several agents share the machine.
  const slots = Math.floor(automaticSlots("compile", thisMachine()) / Math.max(1, compile));
  const agents = localAgents({
    compile,
    slots: options.slots ?? Math.max(1, slots),
    uploadSlots: options.uploadSlots ?? defaultUploadSlots,
  });
  await using farm = await startLocalFarm({
    home,
    cacheFolder: session.cacheFolder,
    port: options.port ?? defaultPort,
    hosts,
    serverUrl: session.servers,
    serverBinary: environment["FLASHYARD_NATS_SERVER"],
    agents,
    logLevel,
    variables: handedOn(environment),
    signal: interrupted,
    say: (line) => terminal.note(line),
  });
  terminal.line(`flashyard is up: ${farm.url}`);
  for (const { name, lane, slots } of agents)
    terminal.line(`  ${name}  ${lane} lane, ${slots} slot${slots === 1 ? "" : "s"}`);
  terminal.line(`  logs in ${join(home, "logs")}; Ctrl-C ends the farm`);
  for (const line of waysIn(session, farm, hosts)) terminal.line(`  ${line}`);
  await untilFired(session.interrupted);
  terminal.note("ending the farm; a flash that has begun goes on to its end (Ctrl-C again: at once)");
  return exitCodes.done;
}

/** How other terminals and other machines get to it. */
function waysIn(session: Session, { url, credentials }: LocalFarm, hosts: readonly string[]): readonly string[] {
  const elsewhere = "in another terminal: export";
  if (credentials === undefined) {
    return url === defaultServers ? [] : [`${elsewhere} FLASHYARD_NATS_URL=${url}`];
  }
  const own = credentials === session.credentials ? [] : [`${elsewhere} FLASHYARD_CREDENTIALS=${credentials}`];
  const others =
    hosts.length === 0
      ? "other machines: start it with --host NAME, by which they reach this one; `flashyard agent pair` lets them in"
      : `other machines reach it as ${hosts.join(", ")}; \`flashyard agent pair\` lets them in`;
  return [...own, others];
}

/** What the agents and their programs need of this process's environment. */
function handedOn(environment: NodeJS.ProcessEnv): Record<string, string> {
  const isWanted = ([name]: [string, string | undefined]) =>
    agentVariables.includes(name) || name.startsWith("ESPHOME_");
  return Object.fromEntries(Object.entries(environment).filter(isWanted)) as Record<string, string>;
}
