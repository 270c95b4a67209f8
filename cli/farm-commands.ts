/** The commands that steer agents, and what the farm keeps. */
import { type Command, InvalidArgumentError } from "commander";
import { examples, jsonOption, numberFrom, reference, type Runner } from "#cli/command-options.ts";

export function addFarmCommands(program: Command, runner: Runner): void {
  addDrain(program, runner);
  addCache(program, runner);
  addArtifact(program, runner);
  addAudit(program, runner);
  addBackup(program, runner);
}

function addBackup(program: Command, runner: Runner): void {
  const identity = "folder of the farm's keys (FLASHYARD_IDENTITY; ~/.local/share/flashyard/farm/identity)";
  program
    .command("backup")
    .description("Put all that the farm must not lose into one file, while it works.")
    .argument("<file>", "a zstd-compressed tar, readable by you only; it must not be there yet")
    .option("--logs", "also the logs of jobs, up to 2 GiB")
    .option("--objects", "also bundles and firmware images; without them a `flashyard upload` needs a build first")
    .option("--check", "make none: say whether FILE is a whole backup, and what it holds")
    .option("--identity <dir>", identity)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard backup farm.tar.zst", "flashyard backup --check farm.tar.zst")}

It holds secrets: passwords of jobs under way, and the farm's keys where they are on this machine.`,
    )
    .action((file: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/backup.ts")).runBackup(session, file, options)),
    );
  program
    .command("restore")
    .description("Put a backup into an empty farm that has no coordinator yet.")
    .argument("<file>", "what `flashyard backup` has made")
    .option("--home <dir>", "where `flashyard up` will run it (default: ~/.local/share/flashyard/farm)")
    .option("--identity <dir>", identity)
    .option(
      "--new-keys",
      "the farm's keys have leaked: go on with those of the folder, or new ones; pair all agents again",
    )
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard restore farm.tar.zst && flashyard up", "flashyard restore farm.tar.zst --server nats://127.0.0.1:4222")}

With --server or FLASHYARD_NATS_URL it goes to that server, otherwise into the home. Everything is checked before anything is
written. Nothing that was under way goes on: it may have been done since the backup was made.`,
    )
    .action((file: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/restore.ts")).runRestore(session, file, options)),
    );
}

function addArtifact(program: Command, runner: Runner): void {
  program
    .command("artifact")
    .description("What is known of what was built.")
    .command("verify")
    .description("Say who built it, from what and with what, and whether signatures, keys and images hold.")
    .argument("<what...>", `${reference}; or a FILE, looked up by its digest`)
    .addOption(jsonOption())
    .addHelpText("after", examples("flashyard artifact verify lamp", "flashyard artifact verify firmware.ota.bin"))
    .action((names: string[], options) =>
      runner.run(async (session) => (await import("#cli/commands/artifact.ts")).runVerify(session, names, options)),
    );
}

function addAudit(program: Command, runner: Runner): void {
  program
    .command("audit")
    .description("Say who has asked the farm to change what, oldest first. Nobody can change or delete it.")
    .option("--since <age>", "12h or 7d: all of that time (default: the newest 50)", ageFrom)
    .option("--limit <n>", "the newest so many", numberFrom(1, 100_000))
    .option("-f, --follow", "go on with what is asked later, until Ctrl-C")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard audit --since 7d", "flashyard audit --follow --json")}

It says what was asked, not what became of it. A name is proven by credentials; what stands behind "says", or alone in a farm
where nobody signs in, is what the command line stated.`,
    )
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/audit.ts")).runAudit(session, options)),
    );
}

function addDrain(program: Command, runner: Runner): void {
  for (const isDrained of [true, false]) {
    program
      .command(isDrained ? "drain" : "undrain")
      .description(
        isDrained
          ? "Give agents nothing new; what they have they end. It holds until `undrain`, also over restarts."
          : "Give agents work again.",
      )
      .argument("<agent...>", "as `flashyard agents` names them")
      .addOption(jsonOption())
      .addHelpText("after", examples(isDrained ? "flashyard drain build-2" : "flashyard undrain build-2"))
      .action((agents: string[], options) =>
        runner.run(async (session) =>
          (await import("#cli/commands/drain.ts")).runDrain(session, agents, isDrained, options),
        ),
      );
  }
}

function addCache(program: Command, runner: Runner): void {
  const cache = program.command("cache").description("What the farm has stored, and what it saves.");
  cache
    .command("ls")
    .description("List builds that an equal request would use, newest first.")
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/cache.ts")).runCacheList(session, options)),
    );
  cache
    .command("stats")
    .description("Say how much is stored: bundles and artifacts, build trees and environments of the agents.")
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/cache.ts")).runCacheStats(session, options)),
    );
  cache
    .command("prune")
    .description("Forget older builds, and delete bundles and artifacts that nothing names any more.")
    .option("--older-than <age>", "12h or 7d (default: 7d)", ageFrom, ageFrom("7d"))
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard cache prune", "flashyard cache prune --older-than 12h")}

The newest build of each configuration stays, and whatever work under way needs. Build trees have a limit of their own on
each agent; \`flashyard clean\` and \`flashyard reset\` take them away.`,
    )
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/cache.ts")).runCachePrune(session, options)),
    );
}

/** In ms. */
function ageFrom(text: string): number {
  const [, number, unit] = /^(\d{1,4})([hd])$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError("It is a number of hours or days, as 12h or 7d.");
  return Number(number) * (unit === "d" ? 24 : 1) * 60 * 60_000;
}
