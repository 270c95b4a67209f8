/**
 * A whole farm on this machine: nats-server, coordinator, compile agents and an upload agent, each a process of its own.
 *
 * 1. One farm at a time uses a home; what a killed predecessor left running there is ended first.
 * 2. `startLocalFarm` returns when the coordinator answers and every agent has announced itself.
 */
import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, poll, systemClock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { requireFreePort } from "#actor/loopback-port.ts";
import { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { flashTotalMsMax, verifyMsMax } from "#protocol/limits.ts";
import type { Connection } from "#bus/connection.ts";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { serverCertificate } from "#bus/identity/authority.ts";
import { type IdentityFolder, identityFolder } from "#bus/identity/identity-folder.ts";
import { signIn, type SignInOptions } from "#bus/identity/sign-in.ts";
import { resolveServerBinary } from "#bus/server-binary.ts";
import { checkServer } from "#bus/server-check.ts";
import { enrolLocally, type LocalAgent } from "#cli/local-agents.ts";
import { type Member, Supervisor } from "#cli/supervisor.ts";

export interface LocalFarmOptions {
  readonly home: string;
  readonly cacheFolder: string;
  /** Port of the embedded nats-server. */
  readonly port: number;
  /** Names and addresses of this machine under which others reach it; absent: only this machine reaches the server. */
  readonly hosts?: readonly string[];
  /** An existing open server; none is started then. */
  readonly serverUrl?: string | undefined;
  /** Path of a nats-server that the user names. */
  readonly serverBinary?: string | undefined;
  readonly agents: readonly LocalAgent[];
  readonly logLevel: string;
  /** More variables for the coordinator and the agents: FLASHYARD_PYTHON, ESPHome's mirrors. */
  readonly variables?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Lines for the user. */
  readonly say: (line: string) => void;
  /** Told the process id of each member whenever it starts. */
  readonly onStart?: (member: string, pid: number) => void;
  readonly clock?: Clock;
}

export interface LocalFarm extends AsyncDisposable {
  readonly url: string;
  /** What people on this machine sign in with; absent: whoever reaches the server is let in. */
  readonly credentials?: string;
}

/** Under which this machine's own processes reach the server. */
const here = ["127.0.0.1", "localhost"];

const root = join(import.meta.dirname, "..");

/** The coordinator answers 0.2 s after the server, an agent that looks for Pythons a second later; a Raspberry Pi is slower. */
const readyMsMax = 60_000;

/** A build is ended within two seconds; its results are on disk before that. */
const endMsMax = 15_000;
/**
 * It lets its flash end first; and it is meant for small machines: less room for young objects saves 6 MB, one thread instead of
 * four for V8's own work 1 MB.
 */
const uploadMember = {
  graceMs: flashTotalMsMax + verifyMsMax,
  nodeOptions: ["--max-semi-space-size=1", "--v8-pool-size=1"],
};

/**
 * @throws UsageError `home-in-use`, `port-taken`, `nats-server-…` (see `resolveServerBinary`, `checkServer`)
 * @throws UnavailableError `survivors`, `no-server`, `farm-not-ready`
 */
export async function startLocalFarm(options: LocalFarmOptions): Promise<LocalFarm> {
  const { home, clock = systemClock } = options;
  await mkdir(join(home, "logs"), { recursive: true, mode: 0o700 });
  await using started = new AsyncDisposableStack();
  started.use(await lockHome(home, clock));
  const ledger = new GroupLedger(join(home, "processes"));
  await ledger.requireNoLeftovers(clock);
  const supervisor = started.use(new Supervisor(clock, options.say));
  const variables = variablesOf(options);
  const identity =
    options.serverUrl === undefined ? await identityFolder(join(home, "identity"), urlOf(options)) : undefined;
  const [servers] = await Promise.all([
    options.serverUrl ?? keepServer(options, supervisor, ledger, identity),
    warmUp(variables, options.signal),
  ]);
  const connection = await connectWhenUp(
    { servers, path: identity?.admin, name: "flashyard up" },
    clock,
    options.signal,
  );
  const members = { ...variables, FLASHYARD_NATS_URL: servers };
  const keeping = { options, supervisor, ledger, identity, servers, variables: members };
  try {
    await checkServer(connection);
    keepCoordinator(keeping);
    await keepAgents(keeping, connection, clock);
    await untilReady(options, connection, clock);
  } finally {
    await connection.close();
  }
  const running = started.move();
  return {
    url: servers,
    ...(identity === undefined ? {} : { credentials: identity.admin }),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** What a member is started from. */
interface Keeping {
  readonly options: LocalFarmOptions;
  readonly supervisor: Supervisor;
  readonly ledger: GroupLedger;
  /** Absent: the farm is open. */
  readonly identity: IdentityFolder | undefined;
  readonly servers: string;
  /** Of every member. */
  readonly variables: Readonly<Record<string, string>>;
}

/** As this machine's own processes reach the embedded server. */
function urlOf({ hosts = [], port }: LocalFarmOptions): string {
  return `${hosts.length === 0 ? "nats" : "tls"}://127.0.0.1:${port}`;
}

/** Of every member; `NODE_COMPILE_CACHE` is where Node keeps our code as it runs it, types stripped and compiled. */
function variablesOf({ variables, logLevel, cacheFolder }: LocalFarmOptions): Record<string, string> {
  return {
    ...plainEnvironment(),
    ...variables,
    FLASHYARD_LOG: logLevel,
    FLASHYARD_SUPERVISED: "1",
    FLASHYARD_CACHE: cacheFolder,
    NODE_COMPILE_CACHE: join(cacheFolder, "node"),
  };
}

/** Of one of our own programs: what all of them are told, and what this one is. */
function keepMember(
  { supervisor, ledger, options }: Keeping,
  name: string,
  entry: string,
  variables: Readonly<Record<string, string>>,
  how: Partial<NodeMemberOptions> = {},
): void {
  const usual = { nodeOptions: [], graceMs: endMsMax, ledger, options };
  supervisor.keep(nodeMember(name, entry, variables, { ...usual, ...how }));
}

function keepCoordinator(keeping: Keeping): void {
  const { variables, identity } = keeping;
  const own = identity === undefined ? {} : { FLASHYARD_IDENTITY: identity.folder };
  keepMember(keeping, "coordinator", "coordinator/main.ts", { ...variables, ...own });
}

/** Each is let in by the coordinator before it starts. */
async function keepAgents(keeping: Keeping, connection: Connection, clock: Clock): Promise<void> {
  const { variables, identity, options, servers } = keeping;
  for (const agent of options.agents) {
    const { name, lane, slots } = agent;
    const home = join(options.home, "agents", name);
    if (identity !== undefined) {
      const { farm } = identity;
      await enrolLocally(connection, agent, home, { servers, farm }, { clock, signal: options.signal });
    }
    const own = { FLASHYARD_AGENT: name, FLASHYARD_SLOTS: String(slots), FLASHYARD_HOME: home };
    const how = lane === "upload" ? uploadMember : {};
    keepMember(keeping, name, `${lane}-agent/main.ts`, { ...variables, ...own }, how);
  }
}

/** Invariant 2. @throws UnavailableError `farm-not-ready` */
async function untilReady(
  { agents, home, signal }: LocalFarmOptions,
  connection: Connection,
  clock: Clock,
): Promise<void> {
  const isReady = await poll(clock, { everyMs: 50, withinMs: readyMsMax, signal }, async () => {
    const answer = await askAdmin(connection, { v: 1, kind: "agents" }).catch(() => undefined);
    if (answer?.kind !== "agents") return undefined;
    const online = new Set<string>();
    for (const { online: isOnline, announcement } of answer.agents) if (isOnline) online.add(announcement.agent);
    return agents.every(({ name }) => online.has(name)) ? true : undefined;
  });
  if (isReady === true) return;
  const reason = signal.aborted ? "interrupted" : `not ready after ${readyMsMax / 1000} s`;
  throw new UnavailableError("farm-not-ready", `the farm is ${reason}; its logs are in ${join(home, "logs")}`);
}

/**
 * Fills the cache of code, a second's work once: a process that has to strip types itself keeps 30 MB more for life, and an
 * upload agent lives on a small machine.
 */
async function warmUp(variables: Record<string, string>, signal: AbortSignal): Promise<void> {
  await runProcess({ argv: [process.execPath, join(root, "upload-agent/main.ts"), "--check"], env: variables, signal });
}

/** Two farms in one home would write to the same store. @throws UsageError `home-in-use` */
export async function lockHome(home: string, clock: Clock): Promise<AsyncDisposable> {
  const giveUp = new AbortController();
  let holder = 0;
  const onWait = (pid: number) => {
    holder = pid;
    giveUp.abort();
  };
  const lock = await lockFolder(join(home, "lock"), { clock, signal: giveUp.signal, onWait });
  if (lock !== undefined) return lock;
  throw new UsageError(
    "home-in-use",
    `another farm (process ${holder}) runs in ${home}: use that one, end it, or name another folder with --home`,
  );
}

/** @returns the server's URL; it listens once the connection that follows succeeds. */
async function keepServer(
  options: LocalFarmOptions,
  supervisor: Supervisor,
  ledger: GroupLedger,
  identity: IdentityFolder | undefined,
): Promise<string> {
  const { port, home, cacheFolder, signal, serverBinary, hosts = [], clock = systemClock } = options;
  // Before anything is downloaded for it.
  await requireFreePort(port, "nats-server");
  const binary = await resolveServerBinary({
    cacheFolder,
    signal,
    ...(serverBinary === undefined ? {} : { explicitPath: serverBinary }),
    onProgress: options.say,
  });
  const reached = hosts.length === 0 || identity === undefined ? undefined : { keys: identity.keys, hosts };
  supervisor.keep({
    name: "nats-server",
    async run(stop) {
      const tls = reached && (await serverCertificate(reached.keys, [...here, ...reached.hosts], clock.now()));
      const onStart = (pid: number) => options.onStart?.("nats-server", pid);
      const server = await startEmbeddedServer({
        binary: binary.path,
        folder: join(home, "nats"),
        port,
        ledger,
        onStart,
        ...(identity === undefined ? {} : { identity }),
        ...(tls === undefined ? {} : { tls }),
      });
      const end = () => void server.stop();
      stop.addEventListener("abort", end, { once: true });
      if (stop.aborted) end();
      return server.ended;
    },
  });
  return urlOf(options);
}

async function connectWhenUp(who: SignInOptions, clock: Clock, signal: AbortSignal): Promise<Connection> {
  let last: unknown;
  const signedIn = await poll(clock, { everyMs: 50, withinMs: 20_000, signal }, async () =>
    signIn(who).catch((error: unknown) => {
      last = error;
      return undefined;
    }),
  );
  if (signedIn !== undefined) return signedIn.connection;
  throw last ?? new UnavailableError("no-server", `no NATS server answers at ${who.servers ?? "its address"}`);
}

interface NodeMemberOptions {
  readonly nodeOptions: readonly string[];
  readonly graceMs: number;
  readonly ledger: GroupLedger;
  readonly options: LocalFarmOptions;
}

/** One of our own programs, with its log in a file of its name. */
function nodeMember(
  name: string,
  entry: string,
  env: Record<string, string>,
  { nodeOptions, graceMs, ledger, options }: NodeMemberOptions,
): Member {
  return {
    name,
    async run(signal): Promise<ProcessResult> {
      const log = createWriteStream(join(options.home, "logs", `${name}.log`), { flags: "a", mode: 0o600 });
      try {
        return await runProcess({
          argv: [process.execPath, ...nodeOptions, join(root, entry)],
          env,
          signal,
          graceMs,
          ledger,
          onStart: (pid) => options.onStart?.(name, pid),
          onBytes: (chunk) => log.write(chunk),
        });
      } finally {
        log.end();
      }
    },
  };
}
