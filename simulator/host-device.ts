/**
 * Runs a compiled ESPHome `host` program as a device of its own: its flash is the program's file, its memory the home
 * folder. Over-the-air updates are real: the program replaces its own file and starts itself again under the same pid.
 *
 * 1. While the device is on, the program runs: when it exits it is started again, as a board would restart.
 * 2. After `stop` nothing of it is left.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { type Clock, systemClock } from "#actor/clock.ts";
import { endGroup, type GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment } from "#actor/subprocess.ts";
import { messageOf } from "#protocol/errors.ts";

export interface HostDeviceOptions {
  readonly name: string;
  /** The compiled program, alone in a folder that the device may write: an update is put there and then renamed. */
  readonly program: string;
  /** Its preferences are kept in `.esphome/prefs` below. */
  readonly home: string;
  /** Output of all its lives, appended. */
  readonly logFile: string;
  /** More environment variables of the program. */
  readonly variables?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  /** Notes it while it runs. */
  readonly ledger?: GroupLedger;
}

export interface HostDevice extends AsyncDisposable {
  readonly name: string;
  /** Of the life it leads now; an update does not change it. */
  readonly pid: number;
  /** How often it was started; more than once means that it exited. */
  readonly starts: number;
  stop(): Promise<void>;
}

/** A crash loop at this pace is seen in the log and does not load the machine. */
const restartPauseMs = 500;
const stopGraceMs = 2_000;

/**
 * Starts the device. It is ready when its ports answer, which the caller awaits.
 * Throws what `spawn` throws when the program cannot be started at all.
 */
export async function startHostDevice(options: HostDeviceOptions): Promise<HostDevice> {
  const clock = options.clock ?? systemClock;
  const off = new AbortController();
  await mkdir(options.home, { recursive: true });
  await mkdir(dirname(options.logFile), { recursive: true });
  const log = await open(options.logFile, "a");
  const env = plainEnvironment({ HOME: options.home, ...options.variables });
  let starts = 0;
  let pid = 0;

  const start = async (): Promise<ChildProcess> => {
    const child = spawn(options.program, [], {
      cwd: dirname(options.program),
      env,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    starts++;
    pid = child.pid ?? 0;
    await options.ledger?.note(pid);
    return child;
  };
  const live = async (first: ChildProcess): Promise<void> => {
    let child: ChildProcess | undefined = first;
    for (;;) {
      if (child !== undefined) await exitOf(child);
      await options.ledger?.forget(pid);
      await clock.pause(restartPauseMs, off.signal);
      if (off.signal.aborted) return;
      child = await start().catch(async (error: unknown) => {
        await log.write(`the program cannot be started: ${messageOf(error)}\n`);
        return undefined;
      });
      // Stopped while it was starting: whoever stopped it has seen only the life before.
      if (off.signal.aborted) await endGroup(clock, pid, stopGraceMs);
    }
  };

  const living = live(await start());
  const stop = async (): Promise<void> => {
    off.abort();
    await endGroup(clock, pid, stopGraceMs);
    await living;
    await log.close();
  };
  let stopping: Promise<void> | undefined;
  return {
    name: options.name,
    get pid() {
      return pid;
    },
    get starts() {
      return starts;
    },
    stop: () => (stopping ??= stop()),
    [Symbol.asyncDispose]: () => (stopping ??= stop()),
  };
}

async function exitOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((resolve) => child.once("exit", () => resolve()));
}
