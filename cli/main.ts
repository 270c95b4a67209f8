#!/usr/bin/env node
/** Entry of the command line: environment, signals, exit code. */
import { CommanderError } from "commander";
import { isFarmError, messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import { commandLine, type Runner } from "#cli/command-line.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { showCursor } from "#cli/live-screen.ts";
import type { Session } from "#cli/session.ts";

const interruption = new AbortController();

async function makeSession(server: string | undefined): Promise<Session> {
  const [{ defaultCacheFolder, defaultUrl }, { systemClock }, { terminalOn }] = await Promise.all([
    import("#actor/agent-settings.ts"),
    import("#actor/clock.ts"),
    import("#cli/terminal.ts"),
  ]);
  const { env, stdout, stderr } = process;
  const isDumb = env["TERM"] === "dumb";
  return {
    serverUrl: server ?? env["FLASHYARD_NATS_URL"] ?? defaultUrl,
    isServerNamed: (server ?? env["FLASHYARD_NATS_URL"]) !== undefined,
    environment: env,
    cacheFolder: defaultCacheFolder(env),
    pythonHint: env["FLASHYARD_PYTHON"],
    // https://no-color.org: any value but an empty one.
    terminal: terminalOn({ out: stdout, errors: stderr, hasColour: (env["NO_COLOR"] ?? "") === "", isDumb }),
    clock: systemClock,
    interrupted: interruption.signal,
  };
}

/** The first Ctrl-C asks the command to let go, the second one ends the process. */
function handleSignals(): void {
  process.on("SIGINT", () => {
    if (interruption.signal.aborted) process.exit(exitCodes.detached);
    interruption.abort();
  });
  process.on("SIGTERM", () => {
    if (interruption.signal.aborted) process.exit(143);
    interruption.abort();
  });
  process.on("SIGHUP", () => process.exit(129));
  process.on("exit", () => {
    if (process.stdout.isTTY) process.stdout.write(showCursor);
  });
}

const runner: Runner = {
  async run(work) {
    handleSignals();
    process.exitCode = await work(await makeSession(program.opts<{ server?: string }>().server));
  },
  async runAlone(work) {
    process.exitCode = await work();
  },
};

/** Says what went wrong, in words for whoever can do something about it. */
function codeOf(error: unknown): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.badInput;
  const say = (text: string) => void process.stderr.write(`flashyard: ${text}\n`);
  if (interruption.signal.aborted) {
    say(isFarmError(error) ? messageOf(error) : "interrupted; nothing was sent");
    return exitCodes.detached;
  }
  if (error instanceof UsageError) {
    say(messageOf(error));
    return exitCodes.badInput;
  }
  if (error instanceof UnavailableError) {
    say(messageOf(error));
    return exitCodes.unreachable;
  }
  say(isFarmError(error) ? messageOf(error) : error instanceof Error ? (error.stack ?? error.message) : String(error));
  say(
    "this is a bug in flashyard, or the coordinator is of another version (`flashyard doctor` says); please report it",
  );
  return exitCodes.bug;
}

// Whoever reads may have enough before we are done: `flashyard ps | head -1`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

const argv = process.argv.slice(2);
const dashes = argv.includes("build") ? argv.indexOf("--") : -1;
const buildCommand = dashes === -1 ? undefined : argv.slice(dashes + 1);
const program = commandLine({ runner, buildCommand });
try {
  await program.parseAsync(dashes === -1 ? argv : argv.slice(0, dashes), { from: "user" });
} catch (error) {
  process.exitCode = codeOf(error);
}
