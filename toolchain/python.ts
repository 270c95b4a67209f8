/** Finds the Pythons of this machine by running them, and picks one for an ESPHome release. */
import { readdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";

export interface Python {
  /** Path of the interpreter itself, links and shims resolved. */
  readonly path: string;
  /** `3.12.1` */
  readonly version: string;
}

export interface PythonSearch {
  /** The user's own choice (FLASHYARD_PYTHON); when it is given, nothing else is tried. */
  readonly hint?: string | undefined;
  /** PATH and HOME of the search; default: those of this process. */
  readonly path?: string;
  readonly home?: string;
  readonly signal?: AbortSignal;
}

export interface PythonsFound {
  /** Usable interpreters, best first. */
  readonly pythons: readonly Python[];
  /** One entry a candidate that exists, with what came of it: `/usr/bin/python3 is 3.11.2`. */
  readonly tried: readonly string[];
}

/**
 * Order of choice among suitable releases: not the newest first, because ESPHome's pinned dependencies get wheels for a
 * new Python only months after it, and without a wheel pip has to compile them.
 */
const preference = ["3.13", "3.12", "3.14", "3.11"];

/** A shim that installs what it does not find would take minutes. */
const answerMsMax = 10_000;

/** Answers where and which it is. A Python without ensurepip (Debian's without python3-venv) cannot make environments. */
const question = [
  "import sys, importlib.util as u",
  "print('flashyard', sys.executable, '%d.%d.%d' % sys.version_info[:3], all(u.find_spec(m) for m in ('venv', 'ensurepip')))",
].join("\n");

/** Runs every candidate once, all at the same time; shims that lead nowhere and broken ones only appear in `tried`. */
export async function findPythons(search: PythonSearch = {}): Promise<PythonsFound> {
  const plain = plainEnvironment();
  const home = search.home ?? plain["HOME"] ?? "/root";
  const env = { ...plain, HOME: home, ...(search.path === undefined ? {} : { PATH: search.path }) };
  const candidates = search.hint === undefined ? await candidatesOf(home) : [search.hint];
  const answers = await Promise.all(candidates.map((candidate) => ask(candidate, env, search.signal)));
  const byPath = new Map<string, Python>();
  for (const { python } of answers)
    if (python !== undefined && !byPath.has(python.path)) byPath.set(python.path, python);
  return {
    pythons: [...byPath.values()].sort((a, b) => rankOf(a) - rankOf(b)),
    tried: [...new Set(answers.map((answer) => answer.note).filter((note) => note !== undefined))],
  };
}

/** The best interpreter whose version satisfies `required`, a list as in `Requires-Python`: `<3.15,>=3.12.0`. */
export function choosePython(found: PythonsFound, required: string): Python | undefined {
  return found.pythons.find((python) => satisfies(python.version, required));
}

/**
 * What an ESPHome release asks of Python, as far as it is known without asking the package index: 3.12 from 2026.7.0 on
 * (`Requires-Python` of its releases, read 2026-11-24), 3.11 before. Releases that the table does not foresee are learnt
 * from pip's own refusal, see `toolchain/pip-refusal.ts`.
 */
export function requiredPython(esphomeVersion: string): string {
  const [year = 0, month = 0] = esphomeVersion.split(".").map(Number);
  return year > 2026 || (year === 2026 && month >= 7) ? ">=3.12" : ">=3.11";
}

/** Whether a version fulfils every condition of a comma-separated list; conditions it cannot read count as fulfilled. */
export function satisfies(version: string, required: string): boolean {
  return required.split(",").every((condition) => {
    const parts = /^\s*(>=|<=|==|!=|>|<)\s*([\d.]+)/.exec(condition);
    const [, operator, wanted] = parts ?? [];
    if (operator === undefined || wanted === undefined) return true;
    const order = compareVersions(version, wanted);
    return {
      ">=": order >= 0,
      "<=": order <= 0,
      ">": order > 0,
      "<": order < 0,
      "==": order === 0,
      "!=": order !== 0,
    }[operator];
  });
}

/** Numeric comparison part by part; a missing part counts as 0, so `3.12` equals `3.12.0`. */
function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split(".").map(Number), b.split(".").map(Number)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const order = (left[i] ?? 0) - (right[i] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

function rankOf(python: Python): number {
  const rank = preference.indexOf(python.version.split(".").slice(0, 2).join("."));
  return rank === -1 ? preference.length : rank;
}

/** Names on PATH, then what pyenv and uv have installed in the home folder. */
async function candidatesOf(home: string): Promise<string[]> {
  const installed = async (folder: string) =>
    (await readdir(folder).catch(() => [])).map((name) => join(folder, name, "bin", "python3"));
  return [
    ...preference.map((version) => `python${version}`),
    "python3",
    ...(await installed(join(home, ".pyenv", "versions"))),
    ...(await installed(join(home, ".local", "share", "uv", "python"))),
  ];
}

interface Answer {
  readonly python?: Python;
  /** Absent for a candidate that simply is not there. */
  readonly note?: string;
}

async function ask(candidate: string, env: Record<string, string>, signal?: AbortSignal): Promise<Answer> {
  const lines: string[] = [];
  const result = await runProcess({
    argv: [candidate, "-I", "-c", question],
    env,
    totalMs: answerMsMax,
    onLine: (line) => lines.push(line),
    ...(signal === undefined ? {} : { signal }),
  });
  if (result.end.kind === "not-started") {
    return result.end.reason === "not-found" && !candidate.includes("/") ? {} : { note: `${candidate} does not start` };
  }
  const answer = /^flashyard (.+) (\d+\.\d+\.\d+) (True|False)$/.exec(
    lines.find((line) => line.startsWith("flashyard ")) ?? "",
  );
  const [, executable, version, makesEnvironments] = answer ?? [];
  if (executable === undefined || version === undefined) {
    // pyenv's shims exist for versions that are not selected and say so with exit code 127.
    return candidate.includes("/") ? { note: `${candidate} is no working Python` } : {};
  }
  const path = await realpath(executable).catch(() => executable);
  if (makesEnvironments !== "True")
    return { note: `${path} is ${version} without venv (Debian: apt install python3-venv)` };
  return { python: { path, version }, note: `${path} is ${version}` };
}
