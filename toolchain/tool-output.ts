/** Reads what a tool prints: cleans every line, keeps the error's own lines, and knows a few phrases that change the verdict. */
import { stripVTControlCharacters } from "node:util";
import type { Failure } from "#protocol/failure.ts";
import type { Redact } from "#toolchain/redaction.ts";
import { isDiskFull } from "#toolchain/pip-refusal.ts";

const tailLinesMax = 40;
const tailLineCharactersMax = 400;
/** Lines after an error that belong to it: the quoted source, the caret, a note. */
const linesAfterError = 6;
const linesBeforeError = 3;

/** From here on everything is about the error: ESPHome's report on a configuration, a Python traceback. */
const reportStart = /^(Failed config|ERROR Error while reading config|Traceback \(most recent call last\))/;
/** One error among other lines: compilers, linkers, CMake, make, ESPHome's own log. */
const errorLine =
  /(^|[\s:])(fatal )?error:|undefined reference to|multiple definition of|^ERROR\b|^CMake Error|^\*\*\* |^make.*\*\*\*/i;
const compilerError = /:\d+(:\d+)?: (fatal )?error: /;
/** What a compiler says before the error about where it is. */
const placeLine =
  /^In file included from|^\s+from .*[,:]$|: In (member )?function|: In (constructor|destructor|lambda|instantiation)|: At global scope/;
/** A name that says secret, with its value behind it or, when the value is a list or mapping, on deeper lines. */
const secretLine = /^(\s*(?:- )?(?:\w*_)?(?:password|psk|key|ssid))\s*:\s*(?!\s|!secret\b)(.*)$/i;
/** Build steps; the block of an error ends here. */
const stepLine = /^\[\s*\d+(\/\d+|%)\]|^(INFO|WARNING) |^FAILED: |^ninja: /;

/** A line without colours, cursor movements and other control characters. Output of builds and devices is untrusted. */
export function cleanLine(line: string): string {
  return stripVTControlCharacters(line).replaceAll(/(?!\t)\p{Cc}|[\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, "");
}

/**
 * ESPHome quotes the part of a configuration that it refuses, with the values in it. It hides what came by `!secret` itself;
 * this hides what stands in the YAML under a name that says secret.
 */
export function hideSecrets(line: string): string {
  return line.replace(secretLine, (whole, name: string, value: string) => (value === "" ? whole : `${name}: (hidden)`));
}

/** Collects the lines of one run; keeps at most 40 of the error and the last 40 of everything. */
export class ToolOutput {
  readonly #redact: Redact;
  readonly #recent: string[] = [];
  readonly #errors: string[] = [];
  #follows = 0;
  #isReport = false;
  /** Indentation of a secret name whose value is on the next, deeper lines. */
  #secretDepth: number | undefined;
  #notices = new Map<Notice, string>();

  /** @param redact done to a line before any of it is cut, kept or shown */
  constructor(redact: Redact = (line) => line) {
    this.#redact = redact;
  }

  /** @returns the line as it may be shown. */
  push(raw: string): string {
    const line = this.#hide(this.#redact(cleanLine(raw)));
    for (const [notice, phrase] of noticePhrases) if (phrase.test(line)) this.#notices.set(notice, line);
    this.#collect(line.trimEnd().slice(0, tailLineCharactersMax));
    return line;
  }

  /** The error's own lines where there are any, else the last lines; at most 40 of 400 characters. */
  tail(): readonly string[] {
    return [...(this.#errors.length > 0 ? this.#errors : this.#recent)];
  }

  /** The last line that said so. */
  noticeOf(notice: Notice): string | undefined {
    return this.#notices.get(notice);
  }

  #hide(line: string): string {
    const depth = line.search(/\S/);
    if (this.#secretDepth !== undefined && depth > this.#secretDepth) return `${" ".repeat(depth)}(hidden)`;
    if (depth !== -1) this.#secretDepth = this.#isReport && secretLine.exec(line)?.[2] === "" ? depth : undefined;
    return hideSecrets(line);
  }

  #collect(line: string): void {
    const isStep = stepLine.test(line);
    if (reportStart.test(line)) this.#isReport = true;
    const isError = errorLine.test(line);
    if (isError && this.#follows === 0 && !this.#isReport) {
      const place = this.#recent.slice(-linesBeforeError);
      this.#keep(
        ...place.slice(place.findIndex((before) => placeLine.test(before))).filter((before) => placeLine.test(before)),
      );
    }
    if (isStep) this.#follows = 0;
    else if (isError) this.#follows = linesAfterError + 1;
    if (line !== "" && !isStep && (this.#isReport || this.#follows > 0)) this.#keep(line);
    this.#follows = Math.max(0, this.#follows - 1);
    if (line === "") return;
    this.#recent.push(line);
    if (this.#recent.length > tailLinesMax) this.#recent.shift();
  }

  /** The first errors count: what follows them is mostly their consequence. */
  #keep(...lines: readonly string[]): void {
    this.#errors.push(...lines.slice(0, tailLinesMax - this.#errors.length));
  }
}

type Notice = "disk-full" | "no-compiler" | "no-git" | "download-failed";

/** ESPHome 2026.10: host/toolchain.py, git.py, framework_helpers.py; PlatformIO 6: its package manager and http client. */
const noticePhrases: readonly (readonly [Notice, { test(line: string): boolean }])[] = [
  ["disk-full", { test: isDiskFull }],
  ["no-compiler", /(gcc|g\+\+|ninja|cc) not found on PATH|could not find ninja/i],
  ["no-git", /git is not installed/],
  [
    "download-failed",
    // Git's complaint counts in ESPHome's final report, which is indented; the warnings of its earlier attempts do not.
    /^ERROR Failed to download|^\s+unable to access '|HTTPClientError|InternetConnectionError|Could not install package/,
  ],
];

/**
 * The verdict on an ESPHome run that ended with an exit code other than 0: 2 is the configuration's fault, 1 the build's,
 * except where the output says that this machine lacks something that another one may have.
 */
export function esphomeFailure(exitCode: number, output: ToolOutput, folder: string): Failure {
  if (output.noticeOf("disk-full") !== undefined) return { kind: "disk-full", path: folder };
  const missing = (what: string, notice: Notice): Failure | undefined => {
    const detail = output
      .noticeOf(notice)
      ?.replace(/^(ERROR |WARNING |\s+)/, "")
      .slice(0, 300);
    return detail === undefined ? undefined : { kind: "toolchain-missing", missing: what, detail };
  };
  const lacking =
    missing("a compiler", "no-compiler") ??
    missing("git", "no-git") ??
    // A download that was made up for is no reason when the compiler complains afterwards.
    (output.tail().some((line) => compilerError.test(line))
      ? undefined
      : missing("a download that the build needs", "download-failed"));
  if (lacking !== undefined) return lacking;
  return { kind: exitCode === 2 ? "config-invalid" : "compiler-exit", exitCode, tail: [...output.tail()] };
}
