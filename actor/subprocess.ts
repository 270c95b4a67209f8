/**
 * Children of the farm. The only importer of execa.
 *
 * 1. A child leads its own process group and session; when `runProcess` returns, nobody of either is left, however it ended, nor
 *    anything of what is said to be beyond its session.
 * 2. It ends by itself, by its signal, by silence or by its total time, never by waiting for ever.
 * 3. Its environment is exactly what is given: nothing of ours leaks into a build.
 */
import { execa } from "execa";
import { type Clock, systemClock } from "#actor/clock.ts";
import { LineSplitter } from "#actor/line-splitter.ts";
import { type LimitReached, type ProcessLimits, diskReached, watchLimits } from "#actor/process-limits.ts";
import { endGroup, type GroupLedger } from "#actor/process-group.ts";
import { killGraceMs, logLineBytesMax } from "#protocol/limits.ts";

export type ProcessEnd =
  | { readonly kind: "exited"; readonly exitCode: number }
  | { readonly kind: "signalled"; readonly signal: string }
  /** The caller's signal fired. */
  | { readonly kind: "aborted" }
  | { readonly kind: "deadline"; readonly limit: "silence" | "total"; readonly limitMs: number }
  | { readonly kind: "over-limit"; readonly reached: LimitReached }
  | { readonly kind: "not-started"; readonly reason: "not-found" | "other"; readonly detail: string };

export interface ProcessResult {
  readonly end: ProcessEnd;
  /** Last 40 lines of both streams, oldest first, 400 characters each. */
  readonly tail: readonly string[];
  readonly durationMs: number;
  /** True when nothing of the group was left; false means that something survived SIGKILL. */
  readonly allGone: boolean;
}

export interface ProcessOptions {
  readonly argv: readonly [string, ...string[]] | readonly string[];
  readonly cwd?: string;
  /** The whole environment; see `plainEnvironment`. */
  readonly env: Readonly<Record<string, string>>;
  readonly onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /** Output as it comes, for what must not be cut into lines of limited length. */
  readonly onBytes?: (chunk: Buffer, stream: "stdout" | "stderr") => void;
  readonly signal?: AbortSignal;
  readonly silenceMs?: number;
  readonly totalMs?: number;
  readonly graceMs?: number;
  readonly clock?: Clock;
  /** Where the group is noted on disk while it runs. */
  readonly ledger?: GroupLedger;
  /** Told the leader's process id once it runs. */
  readonly onStart?: (pid: number) => void;
  readonly input?: string;
  /** Of all its processes together. */
  readonly limits?: ProcessLimits;
  /** Ended with it. */
  readonly beyond?: BeyondSession;
}

/** What a command may have running outside of its session: a container, processes of a user of its own. */
export interface BeyondSession {
  readonly started?: (leaderPid: number) => void;
  /** Called when the session is dead. @returns whether nothing is left. */
  readonly end: (leaderPid: number) => Promise<boolean>;
  /** Does the same without us; exit code 0: nothing is left. */
  readonly endCommand: readonly string[];
}

/** The part of a process by which it is confined. */
export type ProcessStart = Pick<ProcessOptions, "argv" | "env" | "limits" | "beyond"> & { readonly cwd: string };

/** Foreign code is started through one: it says how, and what all of that may take. */
export type Confinement = (start: ProcessStart) => ProcessStart;

/** What was written before the end is read in milliseconds; longer only waits for somebody who keeps the pipe. */
const drainMsMax = 1_000;

/** What a tool needs of the environment and no more: paths, home, locale, proxies, and the package indexes of this machine. */
export function plainEnvironment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const kept =
    /^(PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|LANG|LC_.*|TZ|SSL_CERT_.*|.*_PROXY|.*_proxy|PIP_.*|UV_.*|GO.*|XDG_.*|SYSTEMROOT)$/;
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && kept.test(name)) env[name] = value;
  }
  return { ...env, ...extra };
}

/** Runs a command to its end. Never throws for what the command does; see `ProcessEnd`. */
export async function runProcess(options: ProcessOptions): Promise<ProcessResult> {
  const clock = options.clock ?? systemClock;
  const startedAt = clock.monotonic();
  const tail: string[] = [];
  const [file, ...args] = options.argv;
  const done = (end: ProcessEnd, allGone = true): ProcessResult => ({
    end,
    tail,
    durationMs: clock.monotonic() - startedAt,
    allGone,
  });
  if (file === undefined) return done({ kind: "not-started", reason: "other", detail: "empty command" });
  if (options.signal?.aborted === true) return done({ kind: "aborted" });

  const child = execa(file, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.env,
    extendEnv: false,
    detached: true,
    cleanup: false,
    reject: false,
    buffer: false,
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
  });
  if (child.pid === undefined) {
    const failed = await child;
    const notFound = failed.code === "ENOENT";
    return done({ kind: "not-started", reason: notFound ? "not-found" : "other", detail: failed.shortMessage ?? file });
  }
  const pid = child.pid;
  options.onStart?.(pid);
  options.beyond?.started?.(pid);
  // Awaited only after every listener is attached: a short-lived child ends while its note is written.
  const noted = options.ledger?.note(pid, options.beyond?.endCommand).catch(() => undefined);

  let cut: ProcessEnd | undefined;
  const { promise: mustEnd, resolve: endNow } = Promise.withResolvers<void>();
  const cutOff = (end: ProcessEnd) => {
    cut ??= end;
    endNow();
  };
  const onAbort = () => cutOff({ kind: "aborted" });
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const deadline = (limit: "silence" | "total", limitMs: number | undefined) =>
    limitMs === undefined ? undefined : setTimeout(() => cutOff({ kind: "deadline", limit, limitMs }), limitMs);
  const totalTimer = deadline("total", options.totalMs);
  const silenceTimer = deadline("silence", options.silenceMs);

  const reading = (["stdout", "stderr"] as const).map((name) => {
    const splitter = new LineSplitter(logLineBytesMax, (line) => {
      tail.push(line.slice(0, 400));
      if (tail.length > 40) tail.shift();
      options.onLine?.(line, name);
    });
    const stream = child[name];
    stream.on("data", (chunk: Buffer) => {
      silenceTimer?.refresh();
      options.onBytes?.(chunk, name);
      splitter.push(chunk);
    });
    return new Promise<void>((resolve) => {
      stream.once("close", () => {
        splitter.end();
        resolve();
      });
    });
  });

  const exit = new Promise<ProcessEnd>((resolve) => {
    child.once("exit", (exitCode, signal) =>
      resolve(exitCode === null ? { kind: "signalled", signal: signal ?? "unknown" } : { kind: "exited", exitCode }),
    );
  });
  await noted;
  const { limits } = options;
  const watching = new AbortController();
  const watch = async (held: ProcessLimits) => {
    const reached = await watchLimits(pid, held, clock, watching.signal).catch(() => undefined);
    if (reached !== undefined) cutOff({ kind: "over-limit", reached });
  };
  if (limits !== undefined) void watch(limits);
  await Promise.race([exit, mustEnd]);
  watching.abort();
  clearTimeout(totalTimer);
  clearTimeout(silenceTimer);
  options.signal?.removeEventListener("abort", onAbort);
  // Invariant 1: a leader that exited may have left children that hold our pipes open.
  const isDead = await endGroup(clock, pid, options.graceMs ?? killGraceMs);
  const isBeyondDead = (await options.beyond?.end(pid).catch(() => false)) ?? true;
  const allGone = isDead && isBeyondDead;
  if (isDead) {
    await exit;
    const isRead = new AbortController();
    const allRead = Promise.all(reading).then(() => isRead.abort());
    await clock.pause(drainMsMax, isRead.signal);
    // Invariant 2: a process that has left the group, e.g. a daemon, may hold our pipes open for ever.
    for (const name of ["stdout", "stderr"] as const) child[name].destroy();
    await allRead;
  }
  // What is left is tried again by our next start.
  if (allGone) await options.ledger?.forget(pid);
  const end = cut ?? (await exit);
  const hasFailed = end.kind === "signalled" || (end.kind === "exited" && end.exitCode !== 0);
  const reached = limits !== undefined && hasFailed ? await diskReached(limits).catch(() => undefined) : undefined;
  return done(reached === undefined ? end : { kind: "over-limit", reached }, allGone);
}
