/** What the definitions of several commands share. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { Priority } from "#protocol/chain.ts";
import { OtaEncryption } from "#protocol/job.ts";
import type { ExitCode } from "#cli/exit-codes.ts";
import { defaultEsphomeVersion, type Session } from "#cli/session.ts";

/** How `main.ts` runs a command: makes the session, sets the exit code. */
export interface Runner {
  run(work: (session: Session) => Promise<ExitCode>): Promise<void>;
  /** A command that handles signals itself and answers with its exit code. */
  runAlone(work: () => Promise<number>): Promise<void>;
}

export const reference = "JOB, chain or configuration: 01kf3…, 01kf3….compile, lamp or lamp.upload";

export function examples(...lines: readonly string[]): string {
  return ["", "Examples:", ...lines.map((line) => `  ${line}`)].join("\n");
}

export const versionOption = () =>
  new Option(
    "--esphome-version <version>",
    `release of ESPHome: 2026.10.0, 2026.10 or newest (of the farm); default: what the file says, or ${defaultEsphomeVersion}`,
  );
const priorityOption = () =>
  new Option("--priority <level>", "what goes first (default: bulk for several files, otherwise interactive)").choices(
    Priority.options,
  );
export const rebuildOption = () => new Option("--rebuild", "build, even where the farm has this very build already");
export const buildOnOption = (flag = "--build-on <agent>") =>
  new Option(flag, "compile agent that builds; see `flashyard agents`");
export const jsonOption = () => new Option("--json", "one JSON object a line");
export const detachOption = () => new Option("--detach", "do not wait: print the chains and return");
export const onOption = () => new Option("--on <agent>", "upload agent that flashes; see `flashyard agents`");
export const deviceOption = () =>
  new Option("--device <host[:port]>", "where the device is, when its configuration cannot say");
export const flasherOption = () =>
  new Option("--flasher <name>", "with --serial: the agent's command that flashes it (docs/serial.md)");
export const betweenOption = () =>
  new Option(
    "--between <hours>",
    "begin no flash outside of these hours of the day, by this machine's clock: 02:00-05:00",
  );

/** Where a device is flashed, and how. */
export function addTargetOptions(command: Command): void {
  command
    .addOption(onOption())
    .addOption(deviceOption())
    .option("--serial <port>", "flash over this port of an upload agent; see `flashyard ports`")
    .addOption(flasherOption())
    .addOption(
      new Option(
        "--encryption <policy>",
        "of the upload (default: required where the configuration has `ota: encryption:`)",
      ).choices(OtaEncryption.options),
    );
}

/** The same, and when it is flashed and asked again. */
export function addFlashOptions(command: Command): void {
  addTargetOptions(command);
  command
    .option("--when-online", "wait with the flash until the device is next seen, however long that takes")
    .addOption(betweenOption())
    .option("--confirm", "wait until the device has been asked again whether it still runs the build")
    .option("--confirm-after <seconds>", "how long after its flash it is asked (default: 60)", numberFrom(0, 3_600));
}

export const downgradeOption = () =>
  new Option("--downgrade", "flash also where the device runs a newer release of ESPHome");

/** How requests are handed over, and whether they are waited for. */
export function addRequestOptions(command: Command): void {
  command.addOption(priorityOption()).addOption(detachOption()).addOption(jsonOption());
}

export const repeated = (value: string, before: readonly string[]) => [...before, value];

export function numberFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    if (/^\d{1,7}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
    throw new InvalidArgumentError(`It is a number from ${min} to ${max}.`);
  };
}

export const doctorRoles = ["coordinator", "compile", "upload", "admin"] as const;
export type DoctorRole = (typeof doctorRoles)[number];

export function roleOption() {
  return new Option("--role <role>", "what this machine is (default: what it is found to be)").choices(doctorRoles);
}
