/** `flashyard device simulate`: devices that exist only here, so that a farm can be tried without hardware. */
import { untilFired } from "#actor/until-fired.ts";
import { copyFile, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { GroupLedger } from "#actor/process-group.ts";
import { UsageError } from "#protocol/errors.ts";
import { PortId } from "#protocol/serial.ts";
import { shown } from "#cli/clean-text.ts";
import { runBuild } from "#cli/commands/build.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { size } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { SimulatedFiles } from "#cli/simulated-files.ts";
import type { DeviceBuild } from "#simulator/device-image.ts";
import { factoryConfiguration, startFactoryDevices } from "#simulator/factory-devices.ts";
import { type HostEvent, watchPrograms } from "#simulator/host-programs.ts";
import { type DeviceEvent, LivingDevice } from "#simulator/living-device.ts";
import { type FaultName, type NamedFault, namedFaults } from "#simulator/named-faults.ts";
import type { SimulatedChip } from "#simulator/rom-loader-chips.ts";
import { RomLoader, type RomLoaderEvent } from "#simulator/rom-loader.ts";
import {
  chipConfiguration,
  hostConfiguration,
  macOf,
  type SimulatedConfiguration,
} from "#simulator/simulated-configuration.ts";

export interface SimulateOptions {
  readonly count: number;
  readonly name: string;
  /** Of the first device's updates; its API has the next one, and so on. */
  readonly port: number;
  readonly folder: string;
  readonly host?: boolean;
  readonly password?: string;
  readonly protocol?: 1 | 2;
  readonly encryption?: string;
  readonly sleep?: { readonly awakeMs: number; readonly asleepMs: number };
  readonly fault?: FaultName;
  readonly serial?: SimulatedChip;
  /** `AA:BB:CC:DD:EE:FF` */
  readonly mac?: string;
  readonly json?: boolean;
}

/** Until it is flashed for the first time. */
const factoryBuild = { compilationTime: "2026-01-01 00:00:00 +0000", esphomeVersion: "2026.1.0" } as const;

export async function runDeviceSimulate(session: Session, options: SimulateOptions): Promise<ExitCode> {
  refuseWhatDoesNotFit(options);
  const names = namesFor(options);
  await using files = await SimulatedFiles.open(options.folder);
  if (options.serial !== undefined) return await simulateChips(session, options, options.serial, names, files);
  return options.host === true
    ? await runPrograms(session, options, names, files)
    : await simulateDevices(session, options, names, files);
}

/** @throws UsageError `bad-together`, `bad-name`, `bad-key` */
function refuseWhatDoesNotFit(options: SimulateOptions): void {
  const given = new Set(Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [name])));
  const misfits: Readonly<Record<string, readonly string[]>> = {
    host: ["serial", "sleep", "fault", "encryption", "mac"],
    serial: ["host", "password", "protocol", "encryption", "sleep", "fault"],
  };
  for (const [kind, others] of Object.entries(misfits)) {
    const misfit = given.has(kind) ? others.find((other) => given.has(other)) : undefined;
    if (misfit !== undefined) throw new UsageError("bad-together", `--${kind} does not go with --${misfit}`);
  }
  if (!/^[a-z0-9][a-z0-9-]{0,20}$/.test(options.name)) {
    throw new UsageError("bad-name", `--name ${JSON.stringify(options.name)}: a device is named with a-z, 0-9 and -`);
  }
  if (options.mac !== undefined && options.count > 1) {
    throw new UsageError("bad-together", "--mac is the address of one device: say --count 1 with it");
  }
  const { encryption } = options;
  if (encryption !== undefined && Buffer.from(encryption, "base64").length !== 32) {
    throw new UsageError("bad-key", "--encryption is a key of 32 bytes in base64: `openssl rand -base64 32` makes one");
  }
  if (options.port + 2 * options.count > 65_536) {
    throw new UsageError(
      "bad-port",
      `--port ${options.port}: there are not two ports for each of ${options.count} devices`,
    );
  }
}

function namesFor({ count, name }: SimulateOptions): readonly string[] {
  return count === 1 ? [name] : Array.from({ length: count }, (_, index) => `${name}-${index + 1}`);
}

function configurationOf(options: SimulateOptions, name: string, index: number): SimulatedConfiguration {
  const { port, password, protocol, encryption, sleep, host } = options;
  const otaPort = port + 2 * index;
  const mac = host === true ? undefined : (options.mac ?? macOf(name));
  return { name, otaPort, apiPort: otaPort + 1, mac, password, protocol, encryption, sleeps: sleep !== undefined };
}

/** Devices of this process: they read of an image when it was built, and say that they run it. */
async function simulateDevices(
  session: Session,
  options: SimulateOptions,
  names: readonly string[],
  files: SimulatedFiles,
): Promise<ExitCode> {
  const { password, protocol: version, encryption, sleep, fault: faultName } = options;
  const say = sayer<DeviceEvent>(session, options, deviceSentence);
  const { fault, afterwards }: NamedFault = faultName === undefined ? { meaning: "" } : namedFaults[faultName];
  await using devices = new AsyncDisposableStack();
  for (const [index, name] of names.entries()) {
    const configuration = configurationOf(options, name, index);
    const { otaPort, apiPort } = configuration;
    devices.use(
      await startAt(otaPort, {
        build: { name, ...factoryBuild },
        mac: options.mac ?? macOf(name),
        otaPort,
        apiPort,
        ...(version === undefined ? {} : { version }),
        ...(password === undefined ? {} : { password: { method: "sha256", text: password } }),
        ...(encryption === undefined ? {} : { encryption: { key: encryption, isRequired: true } }),
        ...(sleep === undefined ? {} : { sleep }),
        ...(fault === undefined ? {} : { fault }),
        ...(afterwards === undefined ? {} : { afterwards }),
        clock: session.clock,
        onEvent: (event) => say(name, event),
      }),
    );
    // Behind the start: a file without its device would be installed on whatever has its port.
    const file = await files.write(name, hostConfiguration(configuration));
    tellStart(session, options, { name, file, otaPort, apiPort });
  }
  return await untilCtrlC(session, `flashyard install ${join(options.folder, "*.yaml")}`);
}

async function startAt(port: number, options: Parameters<typeof LivingDevice.start>[0]): Promise<LivingDevice> {
  try {
    return await LivingDevice.start(options);
  } catch (cause) {
    const message = `port ${port} or ${port + 1} on 127.0.0.1 cannot be had: choose others with --port`;
    throw new UsageError("port-taken", message, { cause });
  }
}

/** Real programs, which a real factory's firmware lets be flashed for the first time. */
async function runPrograms(
  session: Session,
  options: SimulateOptions,
  names: readonly string[],
  files: SimulatedFiles,
): Promise<ExitCode> {
  const { terminal, clock, interrupted } = session;
  const say = sayer<HostEvent>(session, options, hostSentence);
  const source = join(files.hidden, "factory.yaml");
  await copyFile(factoryConfiguration, source);
  terminal.note("the farm builds the factory's firmware; the first time that takes a minute");
  const output = join(files.hidden, "factory");
  const quiet = { ...session, terminal: { ...terminal, line: (text: string) => terminal.note(text), isLive: false } };
  const built = await runBuild(quiet, [source], undefined, { output, artifact: [], skip: [] });
  if (built !== exitCodes.done) return built;
  const configurations = names.map((name, index) => configurationOf(options, name, index));
  const programs = join(files.hidden, "programs");
  const ledger = new GroupLedger(join(files.hidden, "processes"), { isGuarding: true });
  await using started = await startFactoryDevices(configurations, join(output, "program"), programs, ledger);
  for (const configuration of configurations) {
    const file = await files.write(configuration.name, hostConfiguration(configuration));
    tellStart(session, options, { ...configuration, file });
  }
  const watching = watchPrograms(started.devices, programs, { clock, signal: interrupted, onEvent: say });
  const code = await untilCtrlC(session, `flashyard install ${join(options.folder, "*.yaml")}`);
  await watching;
  return code;
}

/** Chips at pseudo terminals. Each has a name that stays, so that an agent may be started before them. */
async function simulateChips(
  session: Session,
  options: SimulateOptions,
  chip: SimulatedChip,
  names: readonly string[],
  files: SimulatedFiles,
): Promise<ExitCode> {
  const say = sayer<RomLoaderEvent>(session, options, chipSentence);
  const links = join(files.hidden, "ports");
  await mkdir(links);
  await using chips = new AsyncDisposableStack();
  const named: string[] = [];
  for (const name of names) {
    const mac = (options.mac ?? macOf(name)).split(":").map((digits) => Number.parseInt(digits, 16));
    const loader = await RomLoader.open({ chip, mac, clock: session.clock, onEvent: (event) => say(name, event) });
    chips.use(loader);
    const link = join(links, name);
    await symlink(loader.path, link);
    named.push(`${name}=${link}`);
    const file = await files.write(name, chipConfiguration({ name, port: PortId.parse(name), chip }));
    tellStart(session, options, { name, file, chip, path: loader.path });
  }
  session.terminal.line(`export FLASHYARD_PORTS=${named.join(",")}`);
  return await untilCtrlC(session, "`flashyard up` with that variable, then `flashyard ports`");
}

interface Started {
  readonly name: string;
  readonly file: string;
  readonly otaPort?: number;
  readonly apiPort?: number;
  readonly chip?: string;
  readonly path?: string;
}

function tellStart({ terminal }: Session, { json: isJson = false }: SimulateOptions, device: Started): void {
  const { name, file, otaPort, apiPort, chip, path } = device;
  if (isJson) return terminal.json({ kind: "started", name, file, otaPort, apiPort, chip, path });
  const where = chip === undefined ? `127.0.0.1:${otaPort}, API at ${apiPort}` : `${chip} at ${path}`;
  terminal.line(`${name}  ${where}; ${shown(file)}`);
}

async function untilCtrlC(session: Session, next: string): Promise<ExitCode> {
  session.terminal.note(`next, in another terminal: ${next}; Ctrl-C ends the devices here`);
  await untilFired(session.interrupted);
  return exitCodes.done;
}

/** Tells events that have a sentence. */
function sayer<E extends { readonly kind: string }>(
  { terminal }: Session,
  { json: isJson = false }: SimulateOptions,
  sentence: (event: E) => string | undefined,
): (name: string, event: E) => void {
  return (name, event) => {
    const text = sentence(event);
    if (text === undefined) return;
    if (isJson) terminal.json({ ...event, name });
    else terminal.line(`${name}  ${shown(text)}`);
  };
}

const buildWords = ({ esphomeVersion, compilationTime }: DeviceBuild) =>
  `ESPHome ${esphomeVersion}, built ${compilationTime}`;

function deviceSentence(event: DeviceEvent): string {
  switch (event.kind) {
    case "flashed":
      return `flashed: ${size(event.bytes)}, ${buildWords(event.build)}`;
    case "broken-off":
      return `an update broke off after ${size(event.receivedBytes)} of ${size(event.announcedBytes)}`;
    case "rebooted":
      return `rebooted: runs ${buildWords(event.build)}`;
    case "rolled-back":
      return `rolled back: runs ${buildWords(event.build)}`;
    case "asleep":
      return "sleeps";
    case "awake":
      return "is awake";
    case "gone":
      return "does not come back";
  }
}

function hostSentence(event: HostEvent): string {
  switch (event.kind) {
    case "flashed":
      return `flashed: ${size(event.bytes)}, ${event.build === undefined ? "no build of ESPHome" : buildWords(event.build)}`;
    case "restarted":
      return "its program ended and was started again";
  }
}

function chipSentence(event: RomLoaderEvent): string | undefined {
  switch (event.kind) {
    case "reset":
      return `reset: runs its ${event.into}`;
    case "write-begun":
      return `being flashed: ${size(event.bytes)} at 0x${event.offset.toString(16)}`;
    case "write-finished":
      return "flashed";
    case "sync":
    case "baud":
    case "block":
      return undefined;
  }
}
