/**
 * A pseudo terminal, on which a simulated chip can be found as on a serial port. Node has no call that opens one: a helper in
 * Python (`pty-helper.py`) holds it and links it to pipes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { plainEnvironment } from "#actor/subprocess.ts";
import { UnavailableError } from "#protocol/errors.ts";

/** The modem lines that the program at the other end has set; true is asserted, so low on the wire. */
export interface ModemLines {
  readonly dtr: boolean;
  readonly rts: boolean;
}

export interface PtyOptions {
  /** What the other end sends. */
  onBytes(bytes: Buffer): void;
  onLines?(lines: ModemLines): void;
  /**
   * A FIFO in which changes of the modem lines arrive, as `lines <dtr> <rts>`. The kernel's terminals have no such lines; whoever
   * wants them gives the other end a library that writes there.
   */
  readonly linesFifo?: string;
}

/** How long Python may take to start. */
const openMsMax = 10_000;

export class Pty implements AsyncDisposable {
  /** What the other end opens: `/dev/pts/7`. */
  readonly path: string;
  readonly #helper: ChildProcess;

  private constructor(path: string, helper: ChildProcess) {
    this.path = path;
    this.#helper = helper;
  }

  /** @throws UnavailableError `no-python` where there is no python3, or one without the module `pty` (Windows). */
  static async open(options: PtyOptions): Promise<Pty> {
    const script = join(import.meta.dirname, "pty-helper.py");
    const fifo = options.linesFifo === undefined ? [] : [options.linesFifo];
    const helper = spawn("python3", [script, ...fifo], {
      stdio: ["pipe", "pipe", "ignore", "pipe"],
      env: plainEnvironment(),
    });
    const path = Promise.withResolvers<string>();
    const notThere = (detail: string) =>
      path.reject(new UnavailableError("no-python", `a simulated serial port needs python3: ${detail}`));
    const timer = setTimeout(() => notThere(`no answer in ${openMsMax / 1000} s`), openMsMax);
    helper.once("error", (error) => notThere(error.message));
    helper.once("exit", (code) => notThere(`it ended with ${code}`));
    createInterface({ input: helper.stdio[3] as Readable }).on("line", (line) => {
      const [word, first = "", second = ""] = line.split(" ");
      if (word === "path") path.resolve(first);
      if (word === "lines") options.onLines?.({ dtr: first === "1", rts: second === "1" });
    });
    helper.stdout?.on("data", (chunk: Buffer) => options.onBytes(chunk));
    helper.stdin?.on("error", () => undefined);
    try {
      return new Pty(await path.promise, helper);
    } catch (error) {
      helper.kill("SIGKILL");
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** To the other end; what nobody reads stays in the kernel's buffer. */
  write(bytes: Uint8Array): void {
    (this.#helper.stdin as Writable).write(bytes);
  }

  /** Takes the terminal away, as if the adapter was pulled out. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#helper.exitCode !== null || this.#helper.signalCode !== null) return;
    const exited = once(this.#helper, "exit");
    this.#helper.kill("SIGKILL");
    await exited;
  }
}
