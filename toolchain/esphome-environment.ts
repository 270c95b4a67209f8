/**
 * ESPHome in a virtual environment per version, made on demand and shared by every process of the machine.
 *
 * 1. `<cache>/esphome/<version>/ready.json` names the folder of the one usable environment, and is written last, by rename,
 *    after `esphome version` has answered with exactly this version. Without it nothing in the folder counts.
 * 2. An environment is built where it stays (its scripts hold absolute paths), under a name that is never used again. A pip
 *    that outlived its killed parent therefore writes into a folder that nobody will ever use.
 * 3. One process builds at a time (`actor/folder-lock.ts`); whoever holds the lock throws away what is not ready.
 * 4. An environment that nobody uses may be taken away at any time (`toolchain/environment-room.ts`). So whoever uses one marks
 *    that first and looks for it then, and makes it again when it is gone.
 */
import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { z } from "zod";
import type { Clock } from "#actor/clock.ts";
import type { Log } from "#actor/log.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { plainEnvironment, runProcess, type ProcessResult } from "#actor/subprocess.ts";
import { EsphomeBuildSpec } from "#protocol/job.ts";
import { stageLimits, type StageLimit } from "#protocol/limits.ts";
import { discardUnready, makeRoom, markerOf, noteUse, showHidden, usersOf } from "#toolchain/environment-room.ts";
import { abortedStop, failed, fileFailure, type Attempt, type Stop } from "#toolchain/attempt.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { markUse } from "#toolchain/marks-of-use.ts";
import { isDiskFull, readPipRefusal, type PipRefusal } from "#toolchain/pip-refusal.ts";
import { deadlineOf, endOfProcess, hasSucceeded } from "#toolchain/process-end.ts";
import { choosePython, findPythons, requiredPython, type Python, type PythonsFound } from "#toolchain/python.ts";

export interface EsphomeEnvironment {
  readonly version: string;
  /** Path of the `esphome` command. */
  readonly esphome: string;
  readonly python: string;
  /** The whole environment of any process that runs it: no terminal, no colours, nothing of the caller's but paths. */
  readonly variables: Readonly<Record<string, string>>;
}

export interface EsphomeEnvironmentsOptions {
  readonly cacheFolder: string;
  readonly clock: Clock;
  readonly log?: Log;
  /** FLASHYARD_PYTHON. */
  readonly pythonHint?: string | undefined;
  /** Variables that the operator passes on to ESPHome, e.g. its `…_MIRRORS`; they win over what is kept anyway. */
  readonly variables?: Readonly<Record<string, string>>;
  readonly ledger?: GroupLedger;
  /** FLASHYARD_ENVIRONMENTS. How many the machine keeps when this process has made one; absent: all. */
  readonly keepMax?: number;
}

export interface EnsureOptions {
  readonly signal?: AbortSignal | undefined;
  /** Lines of our own about what is done; they go to `onLine` when it is absent. */
  readonly onStep?: ((line: string) => void) | undefined;
  /** Lines of the tools. */
  readonly onLine?: ((line: string) => void) | undefined;
  /** For each tool that is run; default: `stageLimits.environment`. */
  readonly limit?: StageLimit | undefined;
}

const Marker = z.object({ v: z.literal(1), folder: z.string().regex(/^env-\w+$/), python: z.string() });

export class EsphomeEnvironments {
  readonly #root: string;
  readonly #options: EsphomeEnvironmentsOptions;
  /** Uses of this process that are not over, by version. */
  readonly #uses = new Map<string, number>();
  /** Marks of uses that end with this process. */
  readonly #endless = new Map<string, Promise<unknown>>();

  constructor(options: EsphomeEnvironmentsOptions) {
    this.#options = options;
    this.#root = join(options.cacheFolder, "esphome");
  }

  /** Versions that can be used at once, oldest first. */
  async ready(): Promise<readonly string[]> {
    const versions = await readdir(this.#root).catch(() => []);
    const states = await Promise.all(versions.map((version) => this.#readyEnvironment(version)));
    return states.flatMap((found) => (found === undefined ? [] : [found.version])).toSorted(byVersion);
  }

  /**
   * Nobody takes the version's environment away, whoever makes it, before this is disposed of (invariant 4). Who asks for an
   * environment without that uses it until its process ends.
   */
  async use(version: string): Promise<AsyncDisposable> {
    const count = (change: 1 | -1) => this.#uses.set(version, (this.#uses.get(version) ?? 0) + change);
    const mark = await this.#mark(version);
    count(1);
    return {
      async [Symbol.asyncDispose]() {
        count(-1);
        await mark?.[Symbol.asyncDispose]();
      },
    };
  }

  /** What has no room for a mark has none to make an environment either, and one that is there goes on without. */
  async #mark(version: string): Promise<AsyncDisposable | undefined> {
    if (!isVersion(version)) return undefined;
    return markUse(usersOf(join(this.#root, version)), this.#options.clock).catch(() => undefined);
  }

  /**
   * The environment of a version; the first caller makes it (25 s here), others wait for that.
   * Failures: `version-unknown`, `toolchain-missing` (no Python, no network, a wheel that does not build), `disk-full`, `deadline`.
   */
  async ensure(version: string, options: EnsureOptions = {}): Promise<Attempt<{ readonly env: EsphomeEnvironment }>> {
    if (!isVersion(version)) {
      return failed({ kind: "version-unknown", tool: "ESPHome", version, detail: "a version looks like 2026.10.0" });
    }
    if ((this.#uses.get(version) ?? 0) === 0) {
      const mark = this.#endless.get(version) ?? this.#mark(version);
      this.#endless.set(version, mark);
      await mark;
    }
    const { clock, log, keepMax = Infinity } = this.#options;
    const ready = await this.#readyEnvironment(version);
    const ensured: Attempt<{ env: EsphomeEnvironment }> =
      ready === undefined ? await this.#ensureMade(version, options) : { ok: true, env: ready };
    if (!ensured.ok) return ensured;
    await noteUse(join(this.#root, version), clock);
    if (ready === undefined) await makeRoom({ root: this.#root, clock, log }, version, keepMax);
    return ensured;
  }

  async #ensureMade(version: string, options: EnsureOptions): Promise<Attempt<{ readonly env: EsphomeEnvironment }>> {
    const folder = join(this.#root, version);
    try {
      await using lock = await lockFolder(join(folder, "lock"), {
        clock: this.#options.clock,
        signal: options.signal,
        onWait: (pid) =>
          stepsOf(options)?.(`waiting for process ${pid}, which makes the environment of ESPHome ${version}`),
      });
      if (lock === undefined) return abortedStop;
      await showHidden(folder);
      const made = await this.#readyEnvironment(version);
      if (made !== undefined) return { ok: true, env: made };
      await discardUnready(folder);
      return await this.#make(version, folder, options);
    } catch (error) {
      return failed(fileFailure(error, folder));
    }
  }

  async #make(version: string, folder: string, options: EnsureOptions): Promise<Attempt<{ env: EsphomeEnvironment }>> {
    const { signal } = options;
    const hint = this.#options.pythonHint;
    const found = await findPythons({ hint, ...(signal === undefined ? {} : { signal }) });
    let required = requiredPython(version);
    const refusedFor = new Set<string>();
    for (;;) {
      if (signal?.aborted === true) return abortedStop;
      const rest = found.pythons.filter((python) => !refusedFor.has(python.path));
      const python = choosePython({ ...found, pythons: rest }, required);
      if (python === undefined) return failed(noPython(version, required, found));
      stepsOf(options)?.(`making the environment of ESPHome ${version} with Python ${python.version}`);
      this.#options.log?.info({ version, python: python.path }, "making an ESPHome environment");
      const built = await this.#build(version, folder, python, options);
      if (!("refusal" in built)) return built;
      if (built.refusal.kind !== "other-python") return failed(failureOf(built.refusal, version, folder));
      // The table did not know it; pip did. Another Python may satisfy what the release asks for.
      required = built.refusal.requires;
      refusedFor.add(python.path);
    }
  }

  /** Invariants 1 and 2. Whatever does not end as ready is removed again. */
  async #build(
    version: string,
    folder: string,
    python: Python,
    options: EnsureOptions,
  ): Promise<Attempt<{ env: EsphomeEnvironment }> | { readonly refusal: PipRefusal }> {
    const place = await mkdtemp(join(folder, "env-"));
    const env = this.#environmentAt(version, place);
    const run = (argv: readonly string[], onBytes?: (chunk: Buffer) => void) =>
      runProcess({
        argv,
        env: env.variables,
        ...(options.limit ?? stageLimits.environment),
        clock: this.#options.clock,
        ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...(this.#options.ledger === undefined ? {} : { ledger: this.#options.ledger }),
        ...(onBytes === undefined ? {} : { onBytes }),
      });
    let isReady = false;
    try {
      const venv = await run([python.path, "-m", "venv", place]);
      if (!hasSucceeded(venv)) return stopOf(venv, `a virtual environment of ${python.path}`, folder);
      const output: Buffer[] = [];
      const pip = [
        env.python,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
      ];
      const install = await run([...pip, `esphome==${version}`], (chunk) => output.push(chunk));
      if (install.end.kind === "exited" && install.end.exitCode !== 0) {
        const said = Buffer.concat(output).toString("utf8");
        return { refusal: readPipRefusal(said, "esphome", version, python.version) };
      }
      if (!hasSucceeded(install)) return stopOf(install, `ESPHome ${version}`, folder);
      const asked = await run([env.esphome, "version"]);
      if (!hasSucceeded(asked)) return stopOf(asked, `ESPHome ${version}`, folder);
      if (!asked.tail.some((line) => line.trim() === `Version: ${version}`)) {
        const detail = `${env.esphome} says ${asked.tail.join(" ").slice(0, 200)}`;
        return failed({ kind: "toolchain-missing", missing: `ESPHome ${version}`, detail });
      }
      await publish(folder, place, python);
      isReady = true;
      return { ok: true, env };
    } finally {
      if (!isReady) await rm(place, { recursive: true, force: true });
    }
  }

  #environmentAt(version: string, place: string): EsphomeEnvironment {
    const plain = plainEnvironment();
    const variables: Record<string, string> = { ...plain, ...quietVariables, ...this.#options.variables };
    const path = variables["PATH"] ?? "/usr/local/bin:/usr/bin:/bin";
    const bin = join(place, "bin");
    return {
      version,
      esphome: join(bin, "esphome"),
      python: join(bin, "python"),
      // ESPHome looks for its ninja, esptool and platformio on PATH.
      variables: { ...variables, PATH: `${bin}${delimiter}${path}` },
    };
  }

  async #readyEnvironment(version: string): Promise<EsphomeEnvironment | undefined> {
    const folder = join(this.#root, version);
    try {
      const marker = Marker.parse(JSON.parse(await readFile(markerOf(folder), "utf8")));
      const env = this.#environmentAt(version, join(folder, marker.folder));
      // Both are gone or dangling when the folder was swept or the Python below was uninstalled.
      await Promise.all([stat(env.esphome), stat(env.python)]);
      return env;
    } catch {
      return undefined;
    }
  }
}

/** What keeps ESPHome, PlatformIO, pip and git from asking, colouring, and holding back their output. */
const quietVariables: Readonly<Record<string, string>> = {
  NO_COLOR: "1",
  TERM: "dumb",
  PYTHONUNBUFFERED: "1",
  PYTHONUTF8: "1",
  GIT_TERMINAL_PROMPT: "0",
  PLATFORMIO_DISABLE_PROGRESSBAR: "true",
  PLATFORMIO_SETTING_ENABLE_TELEMETRY: "false",
};

function stepsOf({ onStep, onLine }: EnsureOptions) {
  return onStep ?? onLine;
}

async function publish(folder: string, place: string, python: Python): Promise<void> {
  const marker = { v: 1, folder: place.slice(folder.length + 1), python: python.version };
  const draft = join(place, "ready.json");
  await writeFile(draft, JSON.stringify(marker));
  await rename(draft, markerOf(folder));
}

function stopOf(result: ProcessResult, missing: string, folder: string): Stop {
  if (result.end.kind === "aborted" && result.allGone) return abortedStop;
  if (isDiskFull(result.tail.join("\n"))) return failed({ kind: "disk-full", path: folder });
  if (result.end.kind === "deadline" && result.allGone) return failed(deadlineOf(result.end, "environment"));
  return failed({ kind: "toolchain-missing", missing, detail: endOfProcess(result) });
}

function noPython(version: string, required: string, found: PythonsFound) {
  const tried = found.tried.length === 0 ? "no Python was found" : found.tried.join(", ");
  const detail = `${tried}; install one (Debian: apt install python3 python3-venv) or name it in FLASHYARD_PYTHON`;
  return { kind: "toolchain-missing", missing: `Python ${required} for ESPHome ${version}`, detail } as const;
}

function failureOf(refusal: Exclude<PipRefusal, { kind: "other-python" }>, version: string, folder: string) {
  switch (refusal.kind) {
    case "no-such-version": {
      const near = refusal.nearest.length === 0 ? "" : `; the nearest are ${refusal.nearest.join(", ")}`;
      return {
        kind: "version-unknown",
        tool: "ESPHome",
        version,
        detail: `the package index has no such release${near}`,
      } as const;
    }
    case "disk-full":
      return { kind: "disk-full", path: folder } as const;
    case "other":
      return { kind: "toolchain-missing", missing: `ESPHome ${version}`, detail: `pip: ${refusal.detail}` } as const;
  }
}

function isVersion(text: string): boolean {
  return EsphomeBuildSpec.shape.version.safeParse(text).success;
}

function byVersion(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}
