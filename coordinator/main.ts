/** Entry of the coordinator's process: environment, wiring, signals. */
import { systemClock } from "#actor/clock.ts";
import { createLog } from "#actor/log.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import { messageOf } from "#protocol/errors.ts";
import { connect } from "#bus/connection.ts";
import { checkServer } from "#bus/server-check.ts";
import { Coordinator } from "#coordinator/coordinator.ts";

const url = process.env.FLASHYARD_NATS_URL ?? "nats://127.0.0.1:4222";
const log = createLog({ role: "coordinator" }, process.env.FLASHYARD_LOG ?? "info");

try {
  const connection = await connect(url, "flashyard coordinator");
  await checkServer(connection);
  const coordinator = new Coordinator(connection, systemClock, log);
  onShutdown(() => coordinator.stop());
  if (process.env.FLASHYARD_SUPERVISED === "1") onOrphaned(() => void coordinator.stop());
  await coordinator.start();
  log.info({ url }, "coordinator ready");
  await coordinator.finished();
  await connection.close();
} catch (error) {
  log.fatal({ err: error }, messageOf(error));
  process.exitCode = 1;
  // A client that still reconnects in the background would keep the process alive.
  setTimeout(() => process.exit(), 100);
}
