/** The commands about many devices at once, and about going back. */
import type { Command } from "commander";
import type { RolloutAction } from "#protocol/rollout.ts";
import {
  addFlashOptions,
  addRequestOptions,
  betweenOption,
  examples,
  flasherOption,
  jsonOption,
  numberFrom,
  onOption,
  type Runner,
  versionOption,
} from "#cli/command-options.ts";

export function addRollouts(program: Command, runner: Runner): void {
  const rollout = program
    .command("rollout")
    .description("Show and steer installs in waves (`install --canary`).")
    .addHelpText(
      "after",
      examples("flashyard install --all --canary 2 --wave 10 --max-failures 1", "flashyard rollout status 01kf3…"),
    );
  rollout
    .command("ls")
    .description("List the rollouts that are not over.")
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/rollout.ts")).runRolloutLs(session, options)),
    );
  rollout
    .command("status")
    .description("Show the waves of a rollout, also of one that is over.")
    .argument("<rollout>", "as `install` has said and `flashyard rollout ls` lists it")
    .addOption(jsonOption())
    .action((id: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/rollout.ts")).runRolloutStatus(session, id, options)),
    );
  for (const [action, description] of Object.entries(actions) as [RolloutAction, string][]) {
    rollout
      .command(action)
      .description(description)
      .argument("<rollout>", "as `flashyard rollout ls` lists it")
      .addOption(jsonOption())
      .action((id: string, options) =>
        runner.run(async (session) =>
          (await import("#cli/commands/rollout.ts")).runRolloutChange(session, id, action, options),
        ),
      );
  }
}

const actions: Readonly<Record<RolloutAction, string>> = {
  pause: "Begin no other flash; what has begun goes on.",
  resume: "Go on, also after it has stopped: what has failed so far does not count any more.",
  abort: "Cancel what has not begun to flash.",
};

export function addFlash(program: Command, runner: Runner): void {
  const flash = program
    .command("flash")
    .description("Flash what any build has made over a serial port: AVR boards, or firmware that is none of ESPHome's.")
    .argument("<build>", "the newest build of a configuration, or a chain: blink, 01kf3…")
    .requiredOption("--serial <port>", "port of an upload agent; see `flashyard ports`")
    .option("--chip <name>", "an ESP chip, flashed with esptool: esp8266, esp32, esp32s3, esp32c3, …")
    .option("--avrdude <part:programmer>", "an AVR, flashed with avrdude: m328p:arduino")
    .addOption(flasherOption())
    .option(
      "--baud <n>",
      "how fast, with --chip or --avrdude (default: what the program takes)",
      numberFrom(300, 5_000_000),
    )
    .option("--image <name>", "which file of the build, where it has several")
    .addOption(onOption())
    .addOption(betweenOption());
  addRequestOptions(flash);
  flash
    .addHelpText(
      "after",
      examples(
        "flashyard build blink --artifact 'blink.hex' -- make",
        "flashyard flash blink --serial usb-1a86_USB_Serial-if00 --avrdude m328p:arduino --baud 57600",
      ),
    )
    .action((build: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/flash.ts")).runFlash(session, build, options)),
    );
}

export function addRollback(program: Command, runner: Runner): void {
  const rollback = program
    .command("rollback")
    .description("Flash the build before: the newest that the device is known to have run well, other than its last.")
    .argument("<file>", "configuration file of ESPHome; it says where the device is")
    .addOption(versionOption());
  addFlashOptions(rollback);
  addRequestOptions(rollback);
  rollback
    .addHelpText(
      "after",
      examples("flashyard rollback lamp.yaml", "flashyard rollback meter.yaml --when-online --confirm"),
    )
    .action((file: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/rollback.ts")).runRollback(session, file, options)),
    );
}
