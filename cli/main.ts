#!/usr/bin/env node
/** Entry of the command line: environment, signals, exit code. */
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { exitCodes } from "#cli/exit-codes.ts";
import { invoke } from "#cli/invocation.ts";
import { showCursor } from "#cli/live-screen.ts";
import type { Session } from "#cli/session.ts";

const interruption = new AbortController();

// Types are stripped once and not at each call: a third of what a short command costs.
enableCompileCache(join(process.env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard"), "node"));

async function makeSession(server: string | undefined): Promise<Session> {
  handleSignals();
  const [{ defaultCacheFolder, defaultCredentials }, { systemClock }, { terminalOn }] = await Promise.all([
    import("#actor/agent-settings.ts"),
    import("#actor/clock.ts"),
    import("#cli/terminal.ts"),
  ]);
  const { env, stdin, stdout, stderr } = process;
  const isDumb = env["TERM"] === "dumb";
  return {
    servers: server ?? env["FLASHYARD_NATS_URL"],
    credentials: defaultCredentials(env),
    environment: env,
    cacheFolder: defaultCacheFolder(env),
    pythonHint: env["FLASHYARD_PYTHON"],
    // https://no-color.org: any value but an empty one.
    terminal: terminalOn({
      input: stdin,
      out: stdout,
      errors: stderr,
      hasColour: (env["NO_COLOR"] ?? "") === "",
      isDumb,
    }),
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

// Whoever reads may have enough before we are done: `flashyard ps | head -1`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit();
  throw error;
});

process.exitCode = await invoke({
  argv: process.argv.slice(2),
  makeSession,
  interrupted: interruption.signal,
  say: (text) => void process.stderr.write(`flashyard: ${text}\n`),
});
