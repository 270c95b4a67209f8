/** A little program in ESPHome's own Python that plays the other side of a conversation, and says in JSON what it saw. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { runProcess } from "#actor/subprocess.ts";
import type { EsphomeTool } from "#test/support/host-firmware.ts";

const fixtures = join(import.meta.dirname, "../fixtures");

export class PythonPeer implements AsyncDisposable {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(port: number, child: ChildProcess, lines: AsyncIterator<string>) {
    this.port = port;
    this.#child = child;
    this.#lines = lines;
  }

  /** @param program in `test/fixtures`; prints `listening PORT` first and ends with its input */
  static async start(tool: EsphomeTool, program: string, ...argv: readonly string[]): Promise<PythonPeer> {
    const child = spawn(tool.python, [join(fixtures, program), ...argv], {
      env: { ...tool.variables },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines: Interface = createInterface(child.stdout);
    const iterator = lines[Symbol.asyncIterator]();
    const first = await iterator.next();
    const port = /^listening (\d+)$/.exec(first.done === true ? "" : first.value)?.[1];
    if (port === undefined) throw new Error(`${program} did not start: ${String(first.value)}`);
    return new PythonPeer(Number(port), child, iterator);
  }

  /** What it saw of the next connection that is over. */
  async saw(): Promise<Readonly<Record<string, unknown>>> {
    const { value } = await this.#lines.next();
    return JSON.parse(String(value)) as Readonly<Record<string, unknown>>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, "close");
    this.#child.stdin?.end();
    await ended;
  }
}

/** Runs lines of Python to their end. @returns the JSON that they print last; throws with their output when they fail. */
export async function runPython(
  tool: EsphomeTool,
  lines: readonly string[],
  ...argv: readonly string[]
): Promise<unknown> {
  const { end, tail } = await runProcess({
    argv: [tool.python, "-c", lines.join("\n"), ...argv],
    env: tool.variables,
    totalMs: 60_000,
  });
  if (end.kind !== "exited" || end.exitCode !== 0) throw new Error(`Python failed:\n${tail.join("\n")}`);
  return JSON.parse(tail.at(-1) ?? "null");
}
