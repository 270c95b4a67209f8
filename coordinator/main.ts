/** Entry of the coordinator's process: environment, wiring, signals. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { setImmediate } from "node:timers/promises";
import { systemClock } from "#actor/clock.ts";
import { createLog } from "#actor/log.ts";
import { whileUnavailable } from "#actor/patience.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import { messageOf, type UnavailableError } from "#protocol/errors.ts";
import { BootId } from "#protocol/ids.ts";
import { untilShutOut } from "#bus/connection.ts";
import { CoordinatorLease } from "#bus/coordinator-lease.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { keyHolder } from "#bus/identity/key-holder.ts";
import { farmIdentity } from "#bus/identity/farm-identity.ts";
import { requireRole, signIn } from "#bus/identity/sign-in.ts";
import { replicaWish } from "#bus/replicas.ts";
import { shownServers } from "#bus/server-addresses.ts";
import { checkServer } from "#bus/server-check.ts";
import { historyLimits } from "#coordinator/config.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import { Leadership } from "#coordinator/leadership.ts";

const log = createLog({ role: "coordinator" }, process.env.FLASHYARD_LOG ?? "info");

const stopping = new AbortController();
onShutdown(async () => stopping.abort());
if (process.env.FLASHYARD_SUPERVISED === "1") onOrphaned(() => stopping.abort());

try {
  const replicas = replicaWish(process.env.FLASHYARD_REPLICAS);
  const away = (error: UnavailableError) => log.warn(`${error.message}: waiting for it`);
  const untilThere = <T>(work: () => Promise<T>) => whileUnavailable(systemClock, stopping.signal, work, away);
  const { keys, credentials: path } = await farmIdentity(process.env);
  const servers = process.env.FLASHYARD_NATS_URL;
  const signedIn = await untilThere(() => signIn({ path, servers, name: "flashyard coordinator" }));
  if (signedIn !== undefined) {
    const { connection } = signedIn;
    if (path !== undefined) requireRole(signedIn.credentials, path, { kind: "coordinator" });
    await untilThere(() => checkServer(connection));
    log.info({ url: shownServers(signedIn.servers) }, "connected");
    const self = { holder: BootId.parse(randomBytes(8).toString("hex")), host: hostname(), pid: process.pid };
    const history = historyLimits(process.env);
    const topology = { replicas, tell: (line: string) => log.info(line) };
    const holder = keys === undefined ? undefined : await keyHolder(keys, signedIn.servers);
    const lease = new CoordinatorLease(connection, systemClock, self, topology);
    const leadership = new Leadership(
      lease,
      systemClock,
      log,
      (lead) =>
        new Coordinator(coordinatorPorts(connection, topology, holder), systemClock, log, {
          lead,
          history,
          breathe: setImmediate,
        }),
    );
    stopping.signal.addEventListener("abort", () => void leadership.stop(), { once: true });
    if (stopping.signal.aborted) await leadership.stop();
    await leadership.start();
    const shutOut = await Promise.race([leadership.finished(), untilShutOut(connection, stopping.signal)]);
    await leadership.stop();
    await connection.close();
    await leadership.finished();
    if (shutOut !== undefined) throw shutOut;
  }
} catch (error) {
  log.fatal({ err: error }, messageOf(error));
  process.exitCode = 1;
  // A client that still reconnects in the background would keep the process alive.
  setTimeout(() => process.exit(), 100);
}
