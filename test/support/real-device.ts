/**
 * A device of ESPHome's own firmware behind a recording proxy, both processes of their own. What a test believes of a flash
 * comes from these two: the proxy's record, and the program that the device runs.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmod, copyFile, mkdir, readFile, rename } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { poll, systemClock } from "#actor/clock.ts";
import { freePort } from "#actor/loopback-port.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { askDevice } from "#upload-agent/native-api.ts";
import { flashOverTheAir } from "#upload-agent/ota.ts";
import { type HostDevice, startHostDevice } from "#simulator/host-device.ts";
import { findEsphome } from "#test/support/host-firmware.ts";
import { flashSessions, type Plan, readRecord, type SessionRecord } from "#test/support/recording-proxy.ts";

const root = join(import.meta.dirname, "../..");

/** Holds ESPHome's environment and the factory's firmware; shared by all runs. */
export const testCacheFolder = join(homedir(), ".cache", "flashyard-test");

/** The factory's firmware, compiled once for each state of its file. @returns the program's path */
export async function factoryProgram(): Promise<string> {
  const tool = await findEsphome();
  const yaml = join(root, "simulator/factory.yaml");
  const digest = createHash("sha256")
    .update(await readFile(yaml))
    .update(tool.esphome)
    .digest("hex")
    .slice(0, 16);
  const folder = join(testCacheFolder, "factory", digest);
  const program = join(folder, "program");
  if ((await readFile(program).catch(() => undefined)) !== undefined) return program;
  await mkdir(folder, { recursive: true });
  await copyFile(yaml, join(folder, "factory.yaml"));
  const argv = [tool.esphome, "compile", "factory.yaml"];
  const { end, tail } = await runProcess({ argv, cwd: folder, env: tool.variables, totalMs: 300_000 });
  if (end.kind !== "exited" || end.exitCode !== 0) throw new Error(`no factory firmware:\n${tail.join("\n")}`);
  await copyFile(join(folder, ".esphome/build/factory/.pioenvs/factory/program"), `${program}.draft`);
  await rename(`${program}.draft`, program);
  return program;
}

/** What a configuration can be varied in. */
export interface Edition {
  /** The program says it at its start, and a test finds it in the program. */
  readonly edition: number;
  readonly password?: string;
  /** Instead of what makes the edition: any other code for the start. */
  readonly code?: string;
}

export class RealDevice implements AsyncDisposable {
  readonly name: string;
  /** The address of this machine at which the farm finds it. */
  readonly at: string;
  /** Of the device itself; the farm is told the proxy's. */
  readonly otaPort: number;
  readonly apiPort: number;
  readonly proxyPort: number;
  #host: HostDevice;
  readonly #wake: () => Promise<HostDevice>;
  readonly #proxy: ChildProcess;
  readonly #record: string;

  private constructor(
    parts: Pick<RealDevice, "name" | "at" | "otaPort" | "apiPort" | "proxyPort">,
    { host, wake }: { readonly host: HostDevice; readonly wake: () => Promise<HostDevice> },
    proxy: ChildProcess,
    record: string,
  ) {
    ({ name: this.name, at: this.at, otaPort: this.otaPort, apiPort: this.apiPort, proxyPort: this.proxyPort } = parts);
    this.#host = host;
    this.#wake = wake;
    this.#proxy = proxy;
    this.#record = record;
  }

  /** @returns when the device answers, with the factory's firmware */
  static async start(name: string, folder: string, at = "127.0.0.1"): Promise<RealDevice> {
    const [otaPort, apiPort] = [await freePort(), await freePort()];
    const home = join(folder, name);
    const program = join(home, "flash", "program");
    const variables = { FLASHYARD_DEVICE: `${name} ${otaPort} ${apiPort}` };
    const wake = () => startHostDevice({ name, program, home, logFile: join(home, "log"), variables });
    await mkdir(join(home, "flash"), { recursive: true });
    await copyFile(await factoryProgram(), program);
    await chmod(program, 0o755);
    const host = await wake();
    const record = join(home, "sessions");
    const argv = [
      join(root, "test/support/recording-proxy.ts"),
      "--at",
      at,
      "--to",
      String(otaPort),
      "--record",
      record,
    ];
    const proxy = spawn(process.execPath, argv, {
      env: plainEnvironment(),
      stdio: ["pipe", "pipe", "inherit"],
      cwd: home,
    });
    const [line] = (await once(createInterface({ input: proxy.stdout }), "line")) as [string];
    const parts = { name, at, otaPort, apiPort, proxyPort: Number(line.split(" ")[1]) };
    const device = new RealDevice(parts, { host, wake }, proxy, record);
    const limits = { everyMs: 50, withinMs: 10_000 };
    if ((await poll(systemClock, limits, () => device.report())) !== undefined) return device;
    await device[Symbol.asyncDispose]();
    throw new Error(`${name} does not answer`);
  }

  /** As `--device` wants it. */
  get address(): string {
    return `${this.at}:${this.proxyPort}`;
  }

  get pid(): number {
    return this.#host.pid;
  }

  yaml({ edition, password, code = `ESP_LOGI("edition", "edition ${edition} of ${this.name}");` }: Edition): string {
    return [
      "esphome:",
      `  name: ${this.name}`,
      "  on_boot:",
      "    - lambda: |-",
      `        ${code}`,
      "host:",
      "logger:",
      "  level: INFO",
      "api:",
      `  port: ${this.apiPort}`,
      "  reboot_timeout: 0s",
      "ota:",
      "  - platform: esphome",
      `    port: ${this.otaPort}`,
      ...(password === undefined ? [] : [`    password: ${password}`]),
      "",
    ].join("\n");
  }

  /** Every connection to the device's update port, newest last. */
  sessions(): readonly SessionRecord[] {
    return readRecord(this.#record);
  }

  /** The sessions in which the device was told to take an image. */
  flashes(): readonly SessionRecord[] {
    return flashSessions(this.sessions());
  }

  /** Until the record satisfies a condition. */
  async untilSession(fits: (session: SessionRecord) => boolean, withinMs = 60_000): Promise<void> {
    const seen = await poll(systemClock, { everyMs: 10, withinMs }, () =>
      this.sessions().some(fits) ? true : undefined,
    );
    if (seen === undefined) throw new Error(`no such session: ${JSON.stringify(this.sessions())}`);
  }

  /** What the device says of itself over its own API; undefined when it does not answer. */
  async report(): Promise<DeviceReport | undefined> {
    const target: OtaTarget = {
      kind: "ota",
      host: "127.0.0.1",
      port: this.otaPort,
      encrypted: false,
      api: { port: this.apiPort },
      name: this.name,
    };
    const answer = await askDevice(target, { signal: new AbortController().signal, timeoutMs: 5_000 });
    return answer.kind === "answered" ? answer.report : undefined;
  }

  /** The edition of the program that the kernel runs for this device, 0 for the factory's; it must be what it reports. */
  async runs(): Promise<number> {
    const report = await this.report();
    const program = await readFile(`/proc/${this.pid}/exe`);
    if (report === undefined || !program.includes(report.compilationTime)) {
      throw new Error(`${this.name} reports ${JSON.stringify(report)}, which is not in the program that it runs`);
    }
    return Number(/edition (\d+) of /.exec(program.toString("latin1"))?.[1] ?? 0);
  }

  /** SHA-256 of the program that it runs, which is its flash. */
  async flashDigest(): Promise<string> {
    const program = await readFile(`/proc/${this.pid}/exe`);
    return createHash("sha256").update(program).digest("hex");
  }

  /** From now on; `undefined`: as fast as it goes. */
  throttle(bytesPerSecond: number | undefined): void {
    this.#proxy.stdin?.write(`bytes-per-second ${bytesPerSecond ?? 1e9}\n`);
  }

  /** What the proxy does to sessions from now on. */
  plan(plan: Plan): void {
    this.#proxy.stdin?.write(`plan ${JSON.stringify(plan)}\n`);
  }

  /** Its ports are closed until `wake`; it keeps its flash. */
  async sleep(): Promise<void> {
    await this.#host.stop();
  }

  async wake(): Promise<void> {
    this.#host = await this.#wake();
  }

  /** Writes an image behind the farm's back, as a device does that goes back to the build before. */
  async goBackTo(image: Uint8Array): Promise<void> {
    const target = { kind: "ota" as const, host: "127.0.0.1", port: this.otaPort, encrypted: false, name: this.name };
    // Its API may answer before its update server does.
    let last: unknown;
    const taken = await poll(systemClock, { everyMs: 50, withinMs: 10_000 }, async () => {
      const result = await flashOverTheAir(target, image, {
        signal: new AbortController().signal,
        deadlineMs: 10_000,
        mayStart: () => true,
        onEvent: () => undefined,
      });
      last = result;
      return result.ok ? true : undefined;
    });
    if (taken === undefined) throw new Error(`${this.name} did not go back: ${JSON.stringify(last)}`);
  }

  /** The program that it runs. */
  async image(): Promise<Buffer> {
    return readFile(`/proc/${this.pid}/exe`);
  }

  /** It answers nothing until `thaw`. */
  freeze(): void {
    process.kill(this.pid, "SIGSTOP");
  }

  thaw(): void {
    process.kill(this.pid, "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.thaw();
    // Ctrl-C reaches the proxy as well.
    if (this.#proxy.exitCode === null && this.#proxy.signalCode === null) {
      const ended = once(this.#proxy, "exit");
      this.#proxy.kill("SIGTERM");
      await ended;
    }
    await this.#host.stop();
  }
}
