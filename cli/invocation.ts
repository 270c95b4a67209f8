/** One command line from its words to its exit code, for any terminal. */
import { CommanderError } from "commander";
import { isFarmError, messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import { cleanLine } from "#toolchain/tool-output.ts";
import { commandLine } from "#cli/command-line.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import type { Session } from "#cli/session.ts";

export interface Invocation {
  readonly argv: readonly string[];
  /** @param server of `--server` */
  readonly makeSession: (server: string | undefined) => Promise<Session>;
  /** Fires at the first Ctrl-C. */
  readonly interrupted: AbortSignal;
  /** One line about what went wrong. */
  readonly say: (text: string) => void;
}

/** Never throws for what goes wrong on the way. @returns the exit code */
export async function invoke({ argv, makeSession, interrupted, say }: Invocation): Promise<number> {
  const dashes = argv.includes("build") ? argv.indexOf("--") : -1;
  const buildCommand = dashes === -1 ? undefined : argv.slice(dashes + 1);
  let code: number = exitCodes.done;
  const program = commandLine({
    buildCommand,
    runner: {
      async run(work) {
        code = await work(await makeSession(program.opts<{ server?: string }>().server));
      },
      async runAlone(work) {
        code = await work();
      },
    },
  });
  try {
    await program.parseAsync(dashes === -1 ? argv : argv.slice(0, dashes), { from: "user" });
    return code;
  } catch (error) {
    // What went wrong quotes names and text of others.
    return codeOf(error, interrupted.aborted, (text) => say(text.split("\n").map(cleanLine).join("\n")));
  }
}

/** Says what went wrong, in words for whoever can do something about it. */
function codeOf(error: unknown, isInterrupted: boolean, say: (text: string) => void): ExitCode {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.badInput;
  if (isInterrupted) {
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
