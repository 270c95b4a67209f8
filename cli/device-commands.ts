/** The commands that show and handle devices and ports. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { faultNames, namedFaults } from "#simulator/named-faults.ts";
import { chipFacts } from "#simulator/rom-loader-chips.ts";
import { examples, jsonOption, numberFrom, type Runner } from "#cli/command-options.ts";

export function addDevices(program: Command, runner: Runner): void {
  addPorts(program, runner);
  const device = program.command("device").description("Tell the farm something of a device, or run simulated ones.");
  addResolve(device, runner);
  addHold(device, runner);
  addForget(device, runner);
  addSimulate(device, runner);
}

function addPorts(program: Command, runner: Runner): void {
  program
    .command("ports")
    .description("List the serial ports of the upload agents, with what is plugged in.")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard ports", "flashyard install lamp.yaml --serial usb-Espressif_…-if00", "flashyard logs --serial bench")}

A port is called the same for good, whichever number the system gives it (docs/serial.md).`,
    )
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/ports.ts")).runPorts(session, options)),
    );
}

function addResolve(device: Command, runner: Runner): void {
  device
    .command("resolve")
    .description("Say whether a device runs the build of an upload of which nobody knew how it ended.")
    .argument("<name>", "chain or configuration: 01kf3…, lamp or lamp.yaml")
    .option("--running", "it runs the new build")
    .option("--not-running", "it does not")
    .addOption(jsonOption())
    .addHelpText("after", examples("flashyard device resolve lamp --running"))
    .action((name: string, options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/device-resolve.ts")).runDeviceResolve(session, name, options),
      ),
    );
}

function addHold(device: Command, runner: Runner): void {
  device
    .command("hold")
    .description("Keep devices from being flashed by `install --all`, until `device release`.")
    .argument("<name...>", "configuration: lamp or lamp.yaml")
    .option("--reason <text>", "why; whoever meets it is told")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples('flashyard device hold boiler --reason "heating season"', "flashyard device release boiler")}

\`install --all\` leaves it out and says so, also in waves; whoever names it, as \`flashyard install boiler.yaml\`, still flashes it.`,
    )
    .action((names: string[], options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/device-hold.ts")).runDeviceHold(session, names, true, options),
      ),
    );
  device
    .command("release")
    .description("Let `install --all` flash devices again.")
    .argument("<name...>", "configuration: lamp or lamp.yaml")
    .addOption(jsonOption())
    .addHelpText("after", examples("flashyard device release boiler"))
    .action((names: string[], options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/device-hold.ts")).runDeviceHold(session, names, false, options),
      ),
    );
}

function addForget(device: Command, runner: Runner): void {
  device
    .command("forget")
    .description("The hardware was replaced: the next device of this name may be another one.")
    .argument("<name...>", "configuration: lamp or lamp.yaml")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard device forget lamp && flashyard install lamp.yaml")}

The farm knows a device by its address (MAC) once it has flashed it, and refuses another one of the same name, over the air
and over a port (esptool). What is under way meanwhile does not make it known again.`,
    )
    .action((names: string[], options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/device-forget.ts")).runDeviceForget(session, names, options),
      ),
    );
}

const faultOption = () =>
  new Option("--fault <name>", "what goes wrong with every update; see below").choices(faultNames);

function addSimulate(device: Command, runner: Runner): void {
  device
    .command("simulate")
    .description("Run devices that exist only here, until Ctrl-C, so that a farm can be tried without hardware.")
    .option("--count <n>", "how many", numberFrom(1, 100), 2)
    .option("--name <name>", "what they are called; of several NAME-1, NAME-2, …", "lamp")
    .option("--folder <dir>", "where a configuration for each of them is written", "simulated")
    .option("--port <n>", "the first of their ports on 127.0.0.1, two for each", numberFrom(1, 65_534), 28_300)
    .option("--host", "real programs of ESPHome's host platform instead; the farm builds the first one")
    .option("--password <text>", "updates need it")
    .addOption(new Option("--protocol <version>", "of updates: 1 or 2 (default: 2)").argParser(numberFrom(1, 2)))
    .option("--encryption <key>", "updates and API are encrypted with this key (base64)")
    .option("--sleep <on/off>", "seconds awake and asleep in turns, e.g. 20/40", sleepFrom)
    .addOption(faultOption())
    .addOption(
      new Option("--serial <chip>", "instead of all that: chips at simulated serial ports (needs python3)").choices(
        Object.keys(chipFacts),
      ),
    )
    .option("--mac <address>", "of one device: another than that which follows from its name", macFrom)
    .addOption(jsonOption())
    .addHelpText("after", simulateHelp)
    .action((options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/device-simulate.ts")).runDeviceSimulate(session, options),
      ),
    );
}

const simulateHelp = `${examples(
  "flashyard up                                 in one terminal",
  "flashyard device simulate                    in another one",
  "flashyard install simulated/*.yaml           in a third one",
  "flashyard device simulate --count 1 --name shy --sleep 10/60",
  "flashyard device simulate --fault rolls-back",
  "flashyard device simulate --serial esp32 --count 1 --mac 02:00:00:00:00:99    replaced hardware",
)}

What is real. The farm is: it builds each configuration with ESPHome for the host platform (a C++ compiler is enough) and
flashes it over ESPHome's own update protocol. A simulated device speaks that protocol and ESPHome's API, takes the program,
reads in it when it was built, and says from then on that it runs it; it does not run it. So it is good for installs,
cancels, faults, sleep, holds and rollouts, and not for what the firmware does, nor for \`rename\`. With --host the devices are
the programs themselves, and begin with a factory's firmware; keep --port below 32768 then, because from there on Linux takes
ports for outgoing connections, and a program whose port is held by one (for a minute after its end) cannot listen again
when an update has restarted it. With --serial real esptool flashes the chip, and nothing runs there; its configuration is
built with Espressif's tools, which ESPHome fetches.

A configuration that you have changed stays as it is while its device has the same options. The devices have forgotten what they ran
when they are started again.

Faults:
${faultHelp()}`;

function faultHelp(): string {
  const width = Math.max(...faultNames.map((name) => name.length));
  return faultNames.map((name) => `  ${name.padEnd(width)}  ${namedFaults[name].meaning}`).join("\n");
}

function macFrom(text: string): string {
  if (/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) return text.toUpperCase();
  throw new InvalidArgumentError("It is written as 02:00:00:AB:CD:EF.");
}

function sleepFrom(text: string): { readonly awakeMs: number; readonly asleepMs: number } {
  const [, awake, asleep] = /^(\d{1,5})\/(\d{1,5})$/.exec(text) ?? [];
  if (Number(awake ?? 0) > 0 && Number(asleep ?? 0) > 0) {
    return { awakeMs: Number(awake) * 1_000, asleepMs: Number(asleep) * 1_000 };
  }
  throw new InvalidArgumentError("It is a number of seconds awake and one asleep, as 20/40.");
}
