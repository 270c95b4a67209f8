/**
 * The process of an agent: one lane worked over one connection.
 *
 * 1. One process at a time uses an agent's home: a second one waits until the first is gone.
 * 2. What it has started dies with it, however it dies; and before the first statement nothing of a predecessor is left, because
 *    a statement that does not hold a job says that the job is lost.
 * 3. Whoever asks whether it is there is answered as long as its connection is: the coordinator learns from the server that nobody
 *    listens any more before a beat is missed.
 */
import { createPrivateKey, type KeyObject, randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import type { AgentSettings } from "#actor/agent-settings.ts";
import type { Clock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { type JobHandler, LaneWorker } from "#actor/lane-worker.ts";
import type { Log } from "#actor/log.ts";
import { whileUnavailable } from "#actor/patience.ts";
import { GroupLedger } from "#actor/process-group.ts";
import { folderSpool } from "#actor/result-spool.ts";
import type { Service } from "#actor/service.ts";
import type { CompileCapabilities, UploadCapabilities } from "#protocol/agent.ts";
import { BootId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { objectStores } from "#protocol/names.ts";
import { farmVersion } from "#protocol/version.ts";
import { connect, type Connection, untilShutOut } from "#bus/connection.ts";
import { shownServers } from "#bus/server-addresses.ts";
import { askCoordinator, askForLane } from "#bus/agent-client.ts";
import type { Credentials } from "#bus/identity/credentials.ts";
import { edgeApiPrefix } from "#bus/identity/permissions.ts";
import { identityIn, requireRole } from "#bus/identity/sign-in.ts";
import { TokenRenewal } from "#bus/identity/token-renewal.ts";
import { laneSource } from "#bus/lanes.ts";
import { agentAccess } from "#bus/object-asks.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { announce } from "#bus/presence.ts";

/** What the lane's own code gets to work with. */
export interface AgentWorld {
  readonly settings: AgentSettings;
  readonly boot: BootId;
  readonly connection: Connection;
  /** Absent in an open farm. */
  readonly credentials: Credentials | undefined;
  /** To it is sealed what only this agent may read; absent in an open farm. */
  readonly unseal: KeyObject | undefined;
  readonly bundles: ObjectStore;
  readonly artifacts: ObjectStore;
  readonly ledger: GroupLedger;
  readonly clock: Clock;
  readonly log: Log;
}

/** What it gives back: how it does a job, and what it has to do once the lane is open. */
export interface LaneWork {
  readonly handler: JobHandler;
  /** What the first statement says; nobody is to be sent what the agent is not allowed to build. */
  readonly compile?: CompileCapabilities;
  readonly upload?: UploadCapabilities;
  readonly onOpen?: (worker: LaneWorker) => void;
  /** What runs beside the lane, from before its first job until after its last; in this order. */
  readonly services?: readonly Service[];
}

export interface LaneAgentOptions {
  readonly settings: AgentSettings;
  readonly lane: Lane;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly prepare: (world: AgentWorld) => Promise<LaneWork>;
}

/** Works the lane until the signal fires, and then to the end of what must not be broken off. @throws UnavailableError */
export async function runLaneAgent(options: LaneAgentOptions): Promise<void> {
  const { settings, lane, clock, log, signal } = options;
  await using lock = await lockFolder(join(settings.home, "lock"), {
    clock,
    signal,
    onWait: (pid) =>
      log.warn({ home: settings.home, pid }, "another process uses this agent's home: waiting for its end"),
  });
  if (lock === undefined) return;
  const ledger = new GroupLedger(join(settings.home, "processes"), { isGuarding: true });
  await ledger.requireNoLeftovers(clock);
  const path = settings.credentials;
  const who = { path, servers: settings.servers };
  const { credentials, servers } = await identityIn(who);
  requireRole(credentials, path, { kind: "agent", agent: settings.agent, lane });
  const renewal = credentials === undefined ? undefined : new TokenRenewal(path, credentials, clock, log);
  const name = `flashyard ${settings.agent}`;
  const connection = await whileUnavailable(
    clock,
    signal,
    () => renewal?.connect(servers, name) ?? connect(servers, name),
    (error) => log.warn(error.message),
  );
  if (connection === undefined) return;
  const unseal = credentials?.unseal === undefined ? undefined : createPrivateKey(credentials.unseal);
  const apiPrefix = credentials === undefined ? undefined : edgeApiPrefix;
  try {
    const boot = BootId.parse(randomBytes(8).toString("hex"));
    const access = unseal === undefined ? undefined : agentAccess(settings.agent, unseal);
    const storeOf = (bucket: string) => new ObjectStore(connection, bucket, clock, access);
    const stores = { bundles: storeOf(objectStores.bundles), artifacts: storeOf(objectStores.artifacts) };
    const world: AgentWorld = { settings, boot, connection, credentials, unseal, ...stores, ledger, clock, log };
    const { handler, compile, upload, onOpen, services = [] } = await options.prepare(world);
    await using beside = new AsyncDisposableStack();
    for (const service of services) await beside.use(service).start();
    if (renewal !== undefined) await beside.use(renewal).start();
    await using worker = new LaneWorker({
      identity: {
        agent: settings.agent,
        boot,
        lane,
        ...(settings.labels.length === 0 ? {} : { labels: [...settings.labels] }),
        slots: settings.slots,
        ...(compile === undefined ? {} : { compile }),
        ...(upload === undefined ? {} : { upload }),
        version: farmVersion,
        host: hostname(),
        pid: process.pid,
      },
      source: laneSource(connection, lane, settings.agent, settings.slots, log, {
        open: () => askForLane(connection, settings.agent, lane, settings.slots),
        ...(apiPrefix === undefined ? {} : { apiPrefix }),
      }),
      link: {
        ask: (ask) => askCoordinator(connection, settings.agent, ask),
        announce: (statement) => announce(connection, statement),
        ping: () => connection.rtt(),
      },
      handler,
      spool: folderSpool(join(settings.home, "results")),
      clock,
      log,
    });
    await worker.start();
    onOpen?.(worker);
    log.info({ url: shownServers(servers), slots: settings.slots }, `${lane} lane open`);
    const shutOut = await untilShutOut(connection, signal);
    log.info("the lane closes; a flash that has begun goes on to its end");
    await worker.stop();
    if (shutOut !== undefined) throw shutOut;
  } finally {
    await connection.close();
  }
}
