/**
 * Where esptool comes from: what the owner names, what is on PATH, or a virtual environment of our own, made on demand and shared
 * by every process of the machine.
 *
 * 1. Only releases of which the output is known are used: 5.4 and later of the fifth series.
 * 2. `<cache>/esptool/ready.json` names the folder of the environment, and is written last, by rename, after the esptool in it
 *    has answered. One process makes it at a time (`actor/folder-lock.ts`); whoever holds the lock throws away what is not ready.
 */
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import type { Clock } from "#actor/clock.ts";
import { lockFolder } from "#actor/folder-lock.ts";
import { plainEnvironment, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { stageLimits } from "#protocol/limits.ts";
import { abortedStop, type Attempt, failed, fileFailure, type Stop } from "#toolchain/attempt.ts";
import { discardUnready, markerOf } from "#toolchain/environment-room.ts";
import { deadlineOf, endOfProcess, hasSucceeded } from "#toolchain/process-end.ts";
import { choosePython, findPythons, satisfies } from "#toolchain/python.ts";

export interface Esptool {
  /** What starts it. */
  readonly argv: readonly string[];
  readonly version: string;
  /** Beside `plainEnvironment`. */
  readonly variables: Readonly<Record<string, string>>;
}

export interface EsptoolSearch {
  readonly cacheFolder: string;
  readonly clock: Clock;
  /** FLASHYARD_ESPTOOL; when it is given, nothing else is tried. */
  readonly hint?: string | undefined;
  /** FLASHYARD_PYTHON */
  readonly pythonHint?: string | undefined;
  /** Of the search; default: that of this process. */
  readonly path?: string;
  readonly signal?: AbortSignal;
  /** Lines of our own and of pip. */
  readonly onLine?: (line: string) => void;
}

/** Invariant 1; as pip and as `satisfies` write it. */
const wantedRelease = "esptool~=5.4";
const wantedVersion = ">=5.4,<6";
/** What esptool 5 asks of Python (`Requires-Python`). */
const wantedPython = ">=3.10";
/** A cold Python from an SD card needs seconds. */
const answerMsMax = 30_000;

const Marker = z.object({ v: z.literal(1), folder: z.string().regex(/^env-\w+$/), version: z.string() });

/** Failures: `toolchain-missing` (with what to install), `disk-full`, `deadline`. */
export async function findEsptool(search: EsptoolSearch): Promise<Attempt<{ readonly esptool: Esptool }>> {
  if (search.hint !== undefined) {
    const asked = await ask([search.hint], search);
    if (asked.esptool !== undefined) return { ok: true, esptool: asked.esptool };
    const detail = `FLASHYARD_ESPTOOL is ${JSON.stringify(search.hint)}: ${asked.said}`;
    return failed({ kind: "toolchain-missing", missing: wantedRelease, detail });
  }
  for (const name of ["esptool", "esptool.py"]) {
    const { esptool } = await ask([name], search);
    if (esptool !== undefined) return { ok: true, esptool };
  }
  const folder = join(search.cacheFolder, "esptool");
  try {
    const ready = await readyIn(folder);
    if (ready !== undefined) return { ok: true, esptool: ready };
    await mkdir(folder, { recursive: true });
    await using lock = await lockFolder(join(folder, "lock"), {
      clock: search.clock,
      signal: search.signal,
      onWait: (pid) => search.onLine?.(`waiting for process ${pid}, which installs esptool`),
    });
    if (lock === undefined) return abortedStop;
    const made = await readyIn(folder);
    if (made !== undefined) return { ok: true, esptool: made };
    await discardUnready(folder);
    return await make(folder, search);
  } catch (error) {
    return failed(fileFailure(error, folder));
  }
}

/** Invariant 2. */
async function make(folder: string, search: EsptoolSearch): Promise<Attempt<{ readonly esptool: Esptool }>> {
  const { signal, onLine, clock, pythonHint } = search;
  const found = await findPythons({ hint: pythonHint, ...(signal === undefined ? {} : { signal }) });
  if (signal?.aborted === true) return abortedStop;
  const python = choosePython(found, wantedPython);
  if (python === undefined) {
    const tried = found.tried.length === 0 ? "no Python was found" : found.tried.join(", ");
    const detail = `${tried}; install one (Debian: apt install python3 python3-venv) or esptool itself (pipx install esptool)`;
    return failed({
      kind: "toolchain-missing",
      missing: `Python ${wantedPython} for esptool`,
      detail: detail.slice(0, 400),
    });
  }
  onLine?.(`installing ${wantedRelease} with Python ${python.version}`);
  const place = await mkdtemp(join(folder, "env-"));
  const run = (argv: readonly string[]) =>
    runProcess({
      argv,
      env: { ...plainEnvironment(), PYTHONUNBUFFERED: "1", NO_COLOR: "1", TERM: "dumb" },
      ...stageLimits.environment,
      clock,
      ...(onLine === undefined ? {} : { onLine }),
      ...(signal === undefined ? {} : { signal }),
    });
  let isReady = false;
  try {
    const venv = await run([python.path, "-m", "venv", place]);
    if (!hasSucceeded(venv)) return stopOf(venv, `a virtual environment of ${python.path}`);
    const pip = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"];
    const install = await run([join(place, "bin/python"), ...pip, wantedRelease]);
    if (!hasSucceeded(install)) return stopOf(install, wantedRelease);
    const asked = await ask([join(place, "bin/esptool")], search);
    if (asked.esptool === undefined) {
      return failed({ kind: "toolchain-missing", missing: wantedRelease, detail: asked.said });
    }
    const draft = join(place, "ready.json");
    await writeFile(draft, JSON.stringify({ v: 1, folder: basename(place), version: asked.esptool.version }));
    await rename(draft, markerOf(folder));
    isReady = true;
    return { ok: true, esptool: asked.esptool };
  } finally {
    if (!isReady) await rm(place, { recursive: true, force: true });
  }
}

async function readyIn(folder: string): Promise<Esptool | undefined> {
  try {
    const marker = Marker.parse(JSON.parse(await readFile(markerOf(folder), "utf8")));
    // A script whose Python is gone does not start: then the environment is made anew.
    const { esptool } = await ask([join(folder, marker.folder, "bin/esptool")], {});
    return esptool;
  } catch {
    return undefined;
  }
}

interface Answer {
  readonly esptool?: Esptool;
  /** Why it is not used. */
  readonly said: string;
}

async function ask(argv: readonly string[], { path, signal }: Pick<EsptoolSearch, "path" | "signal">): Promise<Answer> {
  const lines: string[] = [];
  const variables = path === undefined ? {} : { PATH: path };
  const result = await runProcess({
    argv: [...argv, "version"],
    env: { ...plainEnvironment(), NO_COLOR: "1", TERM: "dumb", ...variables },
    totalMs: answerMsMax,
    onLine: (line) => lines.push(line),
    ...(signal === undefined ? {} : { signal }),
  });
  const version = lines
    .map((line) => /^(?:esptool v)?(\d+\.\d+(?:\.\d+)?)\b/.exec(line)?.[1])
    .find((found) => found !== undefined);
  if (!hasSucceeded(result) || version === undefined) return { said: endOfProcess(result) };
  if (!satisfies(version, wantedVersion)) return { said: `it is esptool ${version}, and ${wantedVersion} is needed` };
  return { esptool: { argv, version, variables }, said: version };
}

function stopOf(result: ProcessResult, missing: string): Stop {
  if (result.end.kind === "aborted" && result.allGone) return abortedStop;
  if (result.end.kind === "deadline" && result.allGone) return failed(deadlineOf(result.end, "environment"));
  const detail = `${endOfProcess(result)}; without a network: pipx install esptool elsewhere and name it in FLASHYARD_ESPTOOL`;
  return failed({ kind: "toolchain-missing", missing, detail: detail.slice(0, 400) });
}
