/**
 * An Arduino that nobody here has written: simavr runs the genuine bootloader, and avrdude finds it at a pseudo terminal. All of it is
 * Debian's. What is missing is installed where that is possible (root and apt), and named in one line where it is not.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";

const packages = [
  "libsimavr-dev",
  "libsimavr-examples",
  "arduino-core-avr",
  "gcc-avr",
  "avr-libc",
  "avrdude",
  "libelf-dev",
  "gcc",
];
const examples = "/usr/share/doc/libsimavr-examples/examples/examples.tar.gz";
const bootloader = "/usr/share/arduino/hardware/arduino/avr/bootloaders/atmega/ATmegaBOOT_168_atmega328.hex";
/** Written down in the example; so one at a time. */
const link = "/tmp/simavr-uart0";
const needed = [examples, bootloader, "/usr/bin/avrdude", "/usr/bin/avr-gcc", "/usr/include/simavr/sim_avr.h"];

async function run(argv: readonly string[], cwd = "/"): Promise<void> {
  const env = plainEnvironment({ DEBIAN_FRONTEND: "noninteractive" });
  const { end, tail } = await runProcess({ argv, cwd, env, totalMs: 300_000 });
  if (end.kind === "exited" && end.exitCode === 0) return;
  throw new Error(`${argv.join(" ")} failed: ${JSON.stringify(end)}\n${tail.join("\n")}`);
}

async function missing(): Promise<readonly string[]> {
  const found = await Promise.all(
    needed.map((path) =>
      access(path).then(
        () => [],
        () => [path],
      ),
    ),
  );
  return found.flat();
}

/** Compiles the board. @returns its program */
export async function buildSimduino(folder: string): Promise<string> {
  const installs = (await missing()).length > 0 && process.getuid?.() === 0;
  if (installs) {
    await run(["apt-get", "update"]);
    await run(["apt-get", "install", "-y", "--no-install-recommends", ...packages]);
  }
  const still = await missing();
  if (still.length > 0) throw new Error(`missing: ${still.join(", ")}; apt install ${packages.join(" ")}`);
  await run(["tar", "xzf", examples, "-C", folder]);
  const board = join(folder, "examples/board_simduino");
  const program = join(folder, "simduino");
  // It includes GLUT's head and uses nothing of it.
  await mkdir(join(folder, "GL"));
  await writeFile(join(folder, "GL/glut.h"), "");
  const sources = ["simduino.c", "uart_pty.c"].map((name) => join(board, name));
  const includes = [folder, "/usr/include/simavr", "/usr/include/simavr/parts"].map((path) => `-I${path}`);
  await run(["gcc", "-O2", "-w", ...includes, "-o", program, ...sources, "-lsimavr", "-lelf", "-lutil", "-pthread"]);
  return program;
}

/** A program for the board, as Intel HEX. */
export async function buildSketch(folder: string): Promise<string> {
  const source = join(folder, "blink.c");
  const elf = join(folder, "blink.elf");
  const hex = join(folder, "blink.hex");
  const blink = "#include <avr/io.h>\nint main(void) { DDRB |= 32; for (;;) { PORTB ^= 32; } }\n";
  await writeFile(source, blink);
  await run(["avr-gcc", "-mmcu=atmega328p", "-Os", "-o", elf, source]);
  await run(["avr-objcopy", "-O", "ihex", elf, hex]);
  return hex;
}

/** The board right after a reset: its bootloader listens for one flash. */
export class Simduino implements AsyncDisposable {
  readonly path: string;
  readonly #process: ChildProcess;
  readonly #turn: AsyncDisposable;

  private constructor(path: string, process: ChildProcess, turn: AsyncDisposable) {
    this.path = path;
    this.#process = process;
    this.#turn = turn;
  }

  /** Waits for its turn: the link is the same for all. */
  static async start(program: string, folder: string): Promise<Simduino> {
    const turn = await lockFolder("/tmp/flashyard-simduino", { clock: systemClock });
    if (turn === undefined) throw new Error("no turn");
    await rm(link, { force: true });
    const process = spawn(program, [bootloader], { cwd: folder, stdio: "ignore" });
    const path = await poll(systemClock, { everyMs: 20, withinMs: 10_000 }, () =>
      readlink(link).catch(() => undefined),
    );
    if (path === undefined) throw new Error(`${program} made no ${link}`);
    return new Simduino(path, process, turn);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exited = once(this.#process, "exit");
      this.#process.kill("SIGKILL");
      await exited;
    }
    await rm(link, { force: true });
    await this.#turn[Symbol.asyncDispose]();
  }
}
