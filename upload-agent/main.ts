/** Entry of an upload agent's process: environment, wiring, signals. With `--check` it only reads its settings and ends. */
import { X509Certificate } from "node:crypto";
import { readAgentSettings, readUploadSettings, thisMachine, type UploadSettings } from "#actor/agent-settings.ts";
import { type Clock, systemClock } from "#actor/clock.ts";
import type { JobHandler } from "#actor/lane-worker.ts";
import { createLog, type Log } from "#actor/log.ts";
import { onOrphaned, onShutdown } from "#actor/shutdown.ts";
import { messageOf } from "#protocol/errors.ts";
import { JobLogWriter, publishProgress } from "#bus/job-log.ts";
import { type AgentWorld, type LaneWork, runLaneAgent } from "#bus/lane-agent.ts";
import { onPrefetch } from "#bus/lanes.ts";
import { onSerialLogWish } from "#bus/serial-log.ts";
import { onAwaited, sightingsOutlet } from "#bus/sightings.ts";
import { resolveLocalNamesBy } from "#upload-agent/device-connection.ts";
import { DeviceWatch } from "#upload-agent/device-watch.ts";
import { aheadBytesOf, ImagesAhead } from "#upload-agent/images-ahead.ts";
import type { Mdns } from "#upload-agent/mdns.ts";
import { benchOfAgent, capabilitiesOf, PortWatch } from "#upload-agent/serial/bench-of-agent.ts";
import { withOpenSecrets } from "#upload-agent/open-secrets.ts";
import { SerialLogService } from "#upload-agent/serial/log-service.ts";
import { readNamedPorts } from "#upload-agent/serial/named-ports.ts";
import type { UploadServices } from "#upload-agent/upload-job.ts";

async function prepare(
  { settings, boot, connection, credentials, unseal, artifacts, ledger, clock, log }: AgentWorld,
  uploadSettings: UploadSettings,
): Promise<LaneWork> {
  const images = new ImagesAhead(artifacts, clock, aheadBytesOf(thisMachine().memoryBytes));
  onPrefetch(connection, settings.agent, (hint) => {
    if ("images" in hint) images.hint(hint.images);
  });
  const { cacheFolder, home } = settings;
  const named = readNamedPorts(uploadSettings.ports);
  const bench = await benchOfAgent({ ...uploadSettings, named, cacheFolder, home }, clock, ledger);
  const ports = new PortWatch(bench);
  const services: UploadServices = {
    artifacts: images,
    clock,
    serial: bench,
    ...(credentials === undefined ? {} : { authority: new X509Certificate(credentials.farm.authority).publicKey }),
    openLog: (chain, job) => new JobLogWriter(connection, settings.agent, chain, job),
    say: (chain, job, progress) => publishProgress(connection, settings.agent, chain, job, progress),
  };
  // Loaded by the first job: an agent that has nothing to do stays small.
  const handler: JobHandler = async (dispatch, attempt) => {
    const { uploadHandler } = await import("#upload-agent/upload-job.ts");
    return uploadHandler(services)(dispatch, attempt);
  };
  const mdns = await multicastOf(uploadSettings, clock, log);
  const publish = sightingsOutlet(connection);
  const watch = new DeviceWatch({
    ...(mdns === undefined ? {} : { mdns }),
    onAwaited: (handle) => onAwaited(connection, handle),
    publish: (seen) => publish({ v: 1, agent: settings.agent, boot, seen: [...seen] }),
    clock,
  });
  const serialLogs = new SerialLogService({
    ports: bench.ports,
    owners: bench.owners,
    clock,
    onWish: (handle) => onSerialLogWish(connection, settings.agent, handle),
  });
  return {
    handler: withOpenSecrets(handler, unseal),
    upload: capabilitiesOf(bench, await bench.ports.list()),
    onOpen: (worker) => ports.tellTo((upload) => worker.setCapabilities({ upload })),
    services: [...(mdns === undefined ? [] : [mdns]), watch, ports, serialLogs],
  };
}

/** The process's multicast DNS; it also finds the `.local` names of devices that are flashed. */
async function multicastOf({ mdns }: UploadSettings, clock: Clock, log: Log): Promise<Mdns | undefined> {
  if (mdns === "off") return undefined;
  const { Mdns } = await import("#upload-agent/mdns.ts");
  const started = new Mdns({ clock, log, ...(mdns === "on" ? {} : { networks: () => mdns }) });
  resolveLocalNamesBy((host, options) => started.resolve(host, options));
  return started;
}

const stopping = new AbortController();
try {
  const settings = readAgentSettings(process.env, "upload");
  const uploadSettings = readUploadSettings(process.env);
  const log = createLog({ role: "upload-agent", agent: settings.agent, lane: "upload" }, settings.logLevel);
  onShutdown(async () => stopping.abort());
  if (process.env.FLASHYARD_SUPERVISED === "1") onOrphaned(() => stopping.abort());
  const isCheck = process.argv.includes("--check");
  if (!isCheck) {
    await runLaneAgent({
      settings,
      lane: "upload",
      clock: systemClock,
      log,
      signal: stopping.signal,
      prepare: (world) => prepare(world, uploadSettings),
    });
  }
} catch (error) {
  process.stderr.write(`upload-agent: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
