/** The commands that steer and look back at the queue. */
import type { Command } from "commander";
import {
  detachOption,
  deviceOption,
  examples,
  jsonOption,
  numberFrom,
  onOption,
  reference,
  type Runner,
  versionOption,
} from "#cli/command-options.ts";
import { addDevices } from "#cli/device-commands.ts";

export function addQueue(program: Command, runner: Runner): void {
  addLogs(program, runner);
  addHistory(program, runner);
  addCancel(program, runner);
  addRetry(program, runner);
  addRename(program, runner);
  addRemovals(program, runner);
  addDevices(program, runner);
}

function addLogs(program: Command, runner: Runner): void {
  program
    .command("logs")
    .description("Print what the tools of a job printed, or what a device says on its serial port.")
    .argument("[job]", reference)
    .option("-f, --follow", "go on until the job has ended; the exit code says how")
    .option("--serial <port>", "instead of a job: what is said on this port, until Ctrl-C; see `flashyard ports`")
    .option("--agent <name>", "with --serial: the upload agent, where several have a port of that name")
    .option("--baud <rate>", "with --serial: the rate (default: 115200)", numberFrom(300, 5_000_000))
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard logs lamp -f", "flashyard logs lamp.compile", "flashyard logs --serial bench --baud 9600")}

Reading a port makes way for a flash at once, and goes on after it. Several may read one port, at one rate.`,
    )
    .action((text: string | undefined, options) =>
      runner.run(async (session) => (await import("#cli/commands/logs.ts")).runLogs(session, text, options)),
    );
}

function addHistory(program: Command, runner: Runner): void {
  program
    .command("history")
    .description("List what has ended, newest first.")
    .argument("[configuration]", "only of this configuration: lamp or lamp.yaml")
    .option("--failed", "only what failed, or of which nobody knows how it ended")
    .option("-n, --number <n>", "how many (default: 20)", numberFrom(1, 1_000))
    .addOption(jsonOption())
    .addHelpText("after", examples("flashyard history lamp", "flashyard history --failed -n 5"))
    .action((name: string | undefined, options) =>
      runner.run(async (session) => (await import("#cli/commands/history.ts")).runHistory(session, name, options)),
    );
}

function addCancel(program: Command, runner: Runner): void {
  program
    .command("cancel")
    .description("Cancel jobs, chains or all work, and wait until it is over. A flash that has begun goes on.")
    .argument("[job...]", `${reference}; a configuration means all that is under way for it`)
    .option("--all", "all work of the farm")
    .option("--force", "also a flash over a serial port that has begun: its device needs another flash then")
    .option("--no-wait", "return as soon as the order is taken")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard cancel lamp fan.upload", "flashyard cancel --all")}

Exit code 0 when everything is cancelled, 1 when something was too late.`,
    )
    .action((texts: string[], options) =>
      runner.run(async (session) => (await import("#cli/commands/cancel.ts")).runCancel(session, texts, options)),
    );
}

function addRetry(program: Command, runner: Runner): void {
  program
    .command("retry")
    .description("Run again what failed, was cancelled, or ended without anybody knowing how.")
    .argument("[job...]", `${reference}; of a configuration its newest chain`)
    .option("--failed", "the newest build or flash of every configuration, where it failed or is unknown")
    .option("--folder <dir>", "the folder of the configuration files (default: this one)")
    .addOption(deviceOption())
    .option("--yes", "do not ask before a reset is run again")
    .addOption(detachOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard retry lamp", "flashyard retry --failed --folder configurations")}

A build that succeeded is not built again while its configuration is unchanged: only its upload runs.`,
    )
    .action((texts: string[], options) =>
      runner.run(async (session) => (await import("#cli/commands/retry.ts")).runRetry(session, texts, options)),
    );
}

function addRename(program: Command, runner: Runner): void {
  program
    .command("rename")
    .description("Give a device another name: build, flash at the old address, then swap the files.")
    .argument("<file>", "configuration file of ESPHome, e.g. lamp.yaml")
    .argument("<name>", "the device's new name; the file becomes NAME.yaml")
    .addOption(deviceOption())
    .addOption(onOption())
    .addOption(versionOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard rename lamp.yaml desk-lamp")}

The files change only when the device runs the new build. After Ctrl-C or a lost connection the same command
finishes what was begun.`,
    )
    .action((file: string, name: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/rename.ts")).runRename(session, file, name, options)),
    );
}

function addRemovals(program: Command, runner: Runner): void {
  program
    .command("clean")
    .description("Cancel the work of configurations and take their build trees away, on every agent that has one.")
    .argument("<configuration...>", "lamp or lamp.yaml")
    .addOption(detachOption())
    .addOption(jsonOption())
    .addHelpText("after", `${examples("flashyard clean lamp.yaml")}\n\nThe next build starts from nothing.`)
    .action((names: string[], options) =>
      runner.run(async (session) => (await import("#cli/commands/clean.ts")).runClean(session, names, options)),
    );
  program
    .command("reset")
    .description("Cancel all work, wait until it is dead, and take every build tree of every agent away.")
    .option("--yes", "do not ask; needed where nobody can be asked")
    .addOption(detachOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nWhere a build cannot be proven dead the reset fails, and no tree is touched.")
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/reset.ts")).runReset(session, options)),
    );
}
