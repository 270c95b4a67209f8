/** The commands of `flashyard agent`: which machines may work for the farm. */
import { type Command, InvalidArgumentError } from "commander";
import { AgentId } from "#protocol/ids.ts";
import { examples, jsonOption, numberFrom, type Runner } from "#cli/command-options.ts";

export function addAgent(program: Command, runner: Runner): void {
  const agent = program.command("agent").description("Say which machines may work for the farm (docs/pairing.md).");
  addPair(agent, runner);
  addJoin(agent, runner);
  addDecisions(agent, runner);
  agent
    .command("ls")
    .description("List the machines that wait for you, and who is paired and revoked.")
    .addOption(jsonOption())
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/agent-ls.ts")).runAgentList(session, options)),
    );
}

function agentName(text: string): AgentId {
  const { data } = AgentId.safeParse(text);
  if (data !== undefined) return data;
  throw new InvalidArgumentError("An agent is named with a-z, 0-9 and -, at most 63 characters.");
}

function addPair(agent: Command, runner: Runner): void {
  agent
    .command("pair")
    .description("Print the line that lets one other machine ask to join.")
    .option("--compile", "only as a compile agent")
    .option("--upload", "only as an upload agent")
    .option("--name <name>", "only under this name", agentName)
    .option("--minutes <n>", "how long the line is good (default: 15)", numberFrom(1, 1_440))
    .option("--address <urls>", "where the other machine reaches the NATS servers (default: where this one does)")
    .option("--yes", "whoever has the line is let in without being asked about")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard agent pair --compile", "flashyard agent pair --address tls://farm.lan:4222")}

Run the line on the other machine. It shows four words; \`flashyard agent approve\` shows them here as well.`,
    )
    .action((options) =>
      runner.run(async (session) => (await import("#cli/commands/agent-pair.ts")).runAgentPair(session, options)),
    );
}

function addJoin(agent: Command, runner: Runner): void {
  agent
    .command("join")
    .description("Make this machine an agent of the farm that the line is of. Keys are made here and stay here.")
    .argument("<line>", "as `flashyard agent pair` has printed it: fyj1.…")
    .option("--compile", "as a compile agent")
    .option("--upload", "as an upload agent")
    .option("--name <name>", "what the farm calls it (default: the machine's name and the lane)", agentName)
    .option("--home <dir>", "the agent's folder (FLASHYARD_HOME; default: ~/.local/share/flashyard/NAME)")
    .option("--yes", "do not ask whether to join")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${examples("flashyard agent join fyj1.… --compile", "flashyard agent join fyj1.… --upload --name attic-pi")}

A machine may work for several farms: each time with another --home.`,
    )
    .action((line: string, options) =>
      runner.run(async (session) => (await import("#cli/commands/agent-join.ts")).runAgentJoin(session, line, options)),
    );
}

function addDecisions(agent: Command, runner: Runner): void {
  for (const isApproved of [true, false]) {
    const verb = isApproved ? "approve" : "reject";
    agent
      .command(verb)
      .description(
        isApproved
          ? "Let a machine in that waits. Compare its four words with those that it shows itself."
          : "Turn a machine away that waits.",
      )
      .argument("<who...>", "the name that it wants, or its four words")
      .addOption(jsonOption())
      .addHelpText("after", examples(`flashyard agent ${verb} attic-pi`))
      .action((who: string[], options) =>
        runner.run(async (session) =>
          (await import("#cli/commands/agent-decide.ts")).runAgentDecide(session, who, isApproved, options),
        ),
      );
  }
  agent
    .command("artifacts")
    .description("List what an agent has built, as far as the history knows.")
    .argument("<name>", "as `flashyard agent ls` names it", agentName)
    .option("--block", "nothing of it is flashed or used again, nor what it builds from now on")
    .option("--unblock", "it is trusted again")
    .addOption(jsonOption())
    .addHelpText("after", examples("flashyard agent revoke build-2 && flashyard agent artifacts build-2 --block"))
    .action((name: AgentId, options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/agent-artifacts.ts")).runAgentArtifacts(session, name, options),
      ),
    );
  agent
    .command("revoke")
    .description("End an agent's right to work for the farm, for good; its connection is cut.")
    .argument("<name>", "as `flashyard agent ls` names it", agentName)
    .addOption(jsonOption())
    .addHelpText("after", examples("flashyard agent revoke build-2"))
    .action((name: AgentId, options) =>
      runner.run(async (session) =>
        (await import("#cli/commands/agent-revoke.ts")).runAgentRevoke(session, name, options),
      ),
    );
}
