/** Every command with its options and help. What a command does is loaded when it is used. */
import { Command } from "commander";
import { farmVersion } from "#protocol/version.ts";
import { agentVariables } from "#cli/agent-variables.ts";
import {
  addFlashOptions,
  addRequestOptions,
  buildOnOption,
  downgradeOption,
  examples,
  jsonOption,
  numberFrom,
  rebuildOption,
  roleOption,
  reference,
  repeated,
  type Runner,
  versionOption,
} from "#cli/command-options.ts";
import { addAgent } from "#cli/agent-commands.ts";
import { exitCodeTable } from "#cli/exit-codes.ts";
import { addFarmCommands } from "#cli/farm-commands.ts";
import { addIdentity, hostNames } from "#cli/identity-commands.ts";
import { addFlash, addRollback, addRollouts } from "#cli/rollout-commands.ts";
import { addQueue } from "#cli/queue-commands.ts";

export interface CommandLineOptions {
  readonly runner: Runner;
  /** What stands behind the first `--` of `build`; undefined when there is none. */
  readonly buildCommand: readonly string[] | undefined;
}

export function commandLine(options: CommandLineOptions): Command {
  const program = new Command("flashyard")
    .description("Builds firmware on several machines and flashes it from agents beside the devices.")
    .version(farmVersion, "-V, --version")
    .option(
      "--server <urls>",
      "the farm's NATS server, or several with commas (FLASHYARD_NATS_URL; nats://127.0.0.1:4222)",
    )
    .configureHelp({ showGlobalOptions: true })
    .helpCommand(true)
    .exitOverride();
  addUp(program, options.runner);
  addWork(program, options);
  addUpload(program, options.runner);
  addFlash(program, options.runner);
  addRollback(program, options.runner);
  addRollouts(program, options.runner);
  addViews(program, options.runner);
  addQueue(program, options.runner);
  addAgent(program, options.runner);
  addFarmCommands(program, options.runner);
  addIdentity(program, options.runner);
  addAdvice(program, options.runner);
  // Settings are inherited by commands when they are made, the help text is not.
  program.addHelpText("after", helpEnd);
  return program;
}

const environmentHelp = `Environment: FLASHYARD_NATS_URL (server), FLASHYARD_CACHE (ESPHome environments, ~/.cache/flashyard), \
FLASHYARD_PYTHON (the Python to make them with), NO_COLOR; for \`flashyard up\` also FLASHYARD_HOME (what must survive), \
FLASHYARD_NATS_SERVER (path of a nats-server) and what is set for agents: ${agentVariables.join(", ")} \
(deploy/README.md says what each means).`;

const helpEnd = `
The first time:
  flashyard up                      a farm on this machine; leave it running
  flashyard doctor                  says what is missing
  flashyard install lamp.yaml       builds lamp and flashes it over the air
  flashyard install --all           every configuration of this folder

${exitCodeTable()}

${environmentHelp.replaceAll(/(.{1,120})(?: |$)/g, "$1\n").trimEnd()}`;

const settingsHelp = `
A configuration may say to the farm (below \`.flashyard:\`, which ESPHome passes over; a flashyard.yaml beside it is for all
of the folder):
  esphome: 2026.10                  release: 2026.10.0 exactly, 2026.10 any of it, newest of the farm
  build-on: build-1                 the compile agent; build-labels: [fast] any that carries them
  sandbox: bubblewrap               built in a sandbox of this level or a stronger one only (\`flashyard agents\`)
  flash-on: attic-pi                the upload agent; flash-labels: [attic] any that carries them
  medium: thread:hall               flashed one at a time through this border router
  port: usb-Espressif_…-if00        flashed over this port (\`flashyard ports\`), baud: 921600, flasher: picotool
  when-online: true                 flashed when it is next seen; between: 02:00-05:00 in these hours
  encryption: opportunistic         or require, or never: of uploads over the air`;

function addWork(program: Command, { runner, buildCommand }: CommandLineOptions): void {
  const install = program
    .command("install")
    .description("Build configurations and flash them, over the air or over a serial port.")
    .argument("[file...]", "configuration files of ESPHome")
    .option("--all", "every *.yaml of the folder but secrets.yaml and files that start with a dot")
    .option("--folder <dir>", "the folder of --all (default: this one)")
    .addOption(versionOption())
    .addOption(buildOnOption())
    .addOption(rebuildOption());
  addFlashOptions(install);
  install.addOption(downgradeOption());
  install
    .option("--canary <n>", "flash this many first, and the others when they have been confirmed", numberFrom(1, 1_000))
    .option("--wave <n>", "flash this many at a time, after those of --canary", numberFrom(1, 1_000))
    .option("--max-failures <n>", "in waves: stop when more devices than this fail (default: 0)", numberFrom(0, 1_000));
  addRequestOptions(install);
  install
    .addHelpText(
      "after",
      `${examples(
        "flashyard install lamp.yaml fan.yaml",
        "flashyard install --all --detach",
        "flashyard install --all --canary 2 --wave 10 --max-failures 1",
        "flashyard install lamp.yaml --device 192.168.1.20 --on attic-upload",
        "flashyard install meter.yaml --when-online --between 02:00-05:00",
      )}
${settingsHelp}`,
    )
    .action((files: string[], options) =>
      runner.run(async (session) => (await import("#cli/commands/install.ts")).runInstall(session, files, options)),
    );
  const build = program
    .command("build")
    .description("Build without flashing: configurations, or a folder with any command behind two dashes.")
    .usage("[options] FILE…\n       flashyard build [options] DIR --artifact GLOB -- COMMAND…")
    .argument("[input...]", "configuration files of ESPHome, or the folder that the command builds")
    .option("--all", "every *.yaml of the folder but secrets.yaml and files that start with a dot")
    .option("--folder <dir>", "the folder of --all (default: this one)")
    .addOption(versionOption())
    .addOption(buildOnOption("--on <agent>"))
    .addOption(rebuildOption())
    .option("--debug", "keep the ELF with its debug symbols as well; -o writes it")
    .option(
      "-o, --output <dir>",
      "write the images and manifest.json there; of several builds, each into its own folder",
    )
    .option("--artifact <glob>", "with a command: files that it makes; may be repeated", repeated, [])
    .option("--skip <glob>", "with a command: files of the folder to leave out; may be repeated", repeated, [])
    .option("--platform <name>", "with a command: what it builds for (default: generic)")
    .option("--name <name>", "with a command: the configuration's name (default: the folder's)");
  addRequestOptions(build);
  build
    .addHelpText(
      "after",
      examples(
        "flashyard build lamp.yaml -o images",
        "flashyard build blink --artifact 'build/*.bin' --skip build -- make all",
      ),
    )
    .action((inputs: string[], options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/build.ts")).runBuild(session, inputs, buildCommand, options),
      ),
    );
}

function addUpload(program: Command, runner: Runner): void {
  const upload = program
    .command("upload")
    .description("Flash what has been built already: the newest build of the configuration.")
    .argument("<file>", "configuration file of ESPHome; it says where the device is")
    .option("--from <chain>", "flash what this chain built")
    .addOption(versionOption());
  addFlashOptions(upload);
  upload.addOption(downgradeOption());
  upload
    .option(
      "--bootloader",
      "flash the bootloader of the build, not the application; a device that fails at this is lost",
    )
    .option("--partition-table", "flash the partition table of the build, not the application; as --bootloader");
  addRequestOptions(upload);
  upload
    .addHelpText("after", examples("flashyard build lamp.yaml && flashyard upload lamp.yaml"))
    .action((file: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/upload.ts")).runUpload(session, file, options)),
    );
}

function addViews(program: Command, runner: Runner): void {
  program
    .command("ps")
    .description("List the jobs that wait and run.")
    .option("-a, --all", "also the newest 50 chains that have ended")
    .addOption(jsonOption())
    .action((options) => runner.run(async (session) => (await import("#cli/commands/ps.ts")).runPs(session, options)));
  program
    .command("devices")
    .description("List the devices with what their last upload left on them.")
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/devices.ts")).runDevices(session, options)),
    );
  program
    .command("agents")
    .description("List the agents that build and flash.")
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/agents.ts")).runAgents(session, options)),
    );
  program
    .command("explain")
    .description("Say why a job waits, or where it went.")
    .argument("<job>", reference)
    .addOption(jsonOption())
    .action((text: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/explain.ts")).runExplain(session, text, options)),
    );
}

function addUp(program: Command, runner: Runner): void {
  program
    .command("up")
    .description("Run a whole farm on this machine until Ctrl-C.")
    .option("--port <n>", "port of the NATS server (default: 4222)", numberFrom(1, 65_535))
    .option(
      "--host <names>",
      "let other machines in, by TLS: the names and addresses by which they reach this one",
      hostNames,
    )
    .option("--home <dir>", "folder of what must survive a restart (default: ~/.local/share/flashyard/farm)")
    .option("--compile <n>", "number of compile agents (default: 1)", numberFrom(0, 64))
    .option("--slots <n>", "builds at a time for each of them (default: by memory and processors)", numberFrom(1, 256))
    .option("--upload-slots <n>", "flashes at a time (default: 4)", numberFrom(1, 64))
    .option("--log-level <level>", "trace, debug, info, warn or error")
    .action((options) => runner.run(async (session) => (await import("#cli/commands/up.ts")).runUp(session, options)));
}

function addAdvice(program: Command, runner: Runner): void {
  program
    .command("doctor")
    .description("Check this machine and the farm, and say how to fix what is missing.")
    .addOption(roleOption())
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/doctor.ts")).runDoctor(session, options)),
    );
  program
    .command("version")
    .description("Print the version.")
    .addOption(jsonOption())
    .action(({ json = false }: { json?: boolean }) =>
      runner.runAlone(async () => {
        const { versionLine } = await import("#cli/commands/version.ts");
        process.stdout.write(`${versionLine(process.version, json)}\n`);
        return 0;
      }),
    );
}
