/** `node coordinator/main.ts` as a process that a test pauses, kills and listens to. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { plainEnvironment } from "#actor/subprocess.ts";
import { compiledOnce } from "#test/support/compiled-once.ts";
import { Arrivals } from "#test/support/arrivals.ts";

const main = join(import.meta.dirname, "../../coordinator/main.ts");

export class CoordinatorProcess implements AsyncDisposable {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #said: Arrivals<string>;

  constructor(name: string, url: string) {
    const env = { ...plainEnvironment(), ...compiledOnce, FLASHYARD_NATS_URL: url };
    this.#child = spawn(process.execPath, [main], { env, stdio: ["ignore", "ignore", "pipe"] });
    this.pid = this.#child.pid ?? 0;
    this.#ended = once(this.#child, "close");
    this.#said = new Arrivals(`word of ${name}`);
    if (this.#child.stderr !== null) {
      createInterface({ input: this.#child.stderr }).on("line", (line) => {
        this.#said.push((JSON.parse(line) as { readonly msg: string }).msg);
      });
    }
  }

  /** Waits until it logs this, after what was waited for before. */
  async says(words: string): Promise<void> {
    await this.#said.next((said) => said.includes(words));
  }

  /** How often it has logged this. */
  count(words: string): number {
    return this.#said.all.filter((said) => said.includes(words)).length;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** @returns its exit code */
  async end(): Promise<number | null> {
    await this.#ended;
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGKILL");
    await this.#ended;
  }
}
