/** The commands of `flashyard identity`, and how names of machines are read. */
import { isIP } from "node:net";
import { type Command, InvalidArgumentError } from "commander";
import { examples, numberFrom, type Runner } from "#cli/command-options.ts";

export type HostNames = readonly [string, ...string[]];

/** Names and addresses with commas between them, as they stand in a certificate. */
export function hostNames(text: string): HostNames {
  const [first, ...others] = text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const isName = (name: string) => isIP(name) !== 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(name);
  const bad = [first ?? text, ...others].find((name) => !isName(name));
  if (bad !== undefined || first === undefined) {
    throw new InvalidArgumentError(`${JSON.stringify(bad ?? text)} is no name or address of a machine.`);
  }
  return [first, ...others];
}

/** As a subject may hold it. */
function adminName(text: string): string {
  if (/^[a-z0-9-]{1,40}$/.test(text)) return text;
  throw new InvalidArgumentError("A person is named with a-z, 0-9 and -, at most 40 characters.");
}

export function addIdentity(program: Command, runner: Runner): void {
  const identity = program
    .command("identity")
    .description("Who the farm is, where it has NATS servers of its own; `flashyard up` makes one by itself.");
  identity
    .command("init")
    .description(
      "Make the farm's keys, what its servers are configured with, and what people and coordinators sign in with.",
    )
    .requiredOption("--folder <dir>", "where it lies; who has it is the farm")
    .requiredOption(
      "--host <names>",
      "a NATS server: the name or address by which others reach it, with commas further ones; once for each server",
      (text: string, before: readonly HostNames[] | undefined) => [...(before ?? []), hostNames(text)],
    )
    .option("--port <n>", "port of the NATS servers (default: 4222)", numberFrom(1, 65_535))
    .addHelpText(
      "after",
      `${examples(
        "flashyard identity init --folder ~/farm --host build-server.lan,192.168.1.5",
        "flashyard identity init --folder ~/farm --host n1.lan --host n2.lan --host n3.lan",
      )}

What is there and fits is kept, so it may be run again: with another --host, or when a certificate nears its end.`,
    )
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/identity.ts")).runIdentityInit(session, options)),
    );
  identity
    .command("renew-certificates")
    .description("Make every server's certificate again, with the same names.")
    .requiredOption("--folder <dir>", "of `flashyard identity init`")
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/identity.ts")).runIdentityRenew(session, options)),
    );
  identity
    .command("admin")
    .description("Make what one more person signs in with.")
    .argument("<name>", "of the person: what they ask for is written down under it", adminName)
    .requiredOption("--folder <dir>", "of `flashyard identity init`")
    .action((name: string, options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/identity.ts")).runIdentityAdmin(session, name, options),
      ),
    );
}
