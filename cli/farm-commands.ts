/** The commands that steer agents, and what the farm keeps. */
import { type Command, InvalidArgumentError } from "commander";
import { examples, jsonOption, type Runner } from "#cli/command-options.ts";

export function addFarmCommands(program: Command, runner: Runner): void {
  addDrain(program, runner);
  addCache(program, runner);
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
