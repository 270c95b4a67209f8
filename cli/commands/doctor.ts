/** `flashyard doctor`: what is missing for a farm that works, and what to do about it. */
import { type Check, checkFarm, checkNode, checkToolchain } from "#cli/checks.ts";
import { padded, shown, widthOf } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import type { Colour } from "#cli/job-sentence.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import type { Terminal } from "#cli/terminal.ts";

const colours: Readonly<Record<Check["state"], Colour>> = { ok: "green", warning: "yellow", problem: "red" };

export async function runDoctor(
  session: Session,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  const { terminal } = session;
  const [farm, tools] = await Promise.all([checkFarm(session), checkToolchain(session)]);
  const checks = [checkNode(process.version), ...farm, ...tools];
  if (isJson) for (const check of checks) terminal.json(check);
  else showChecks(terminal, checks);
  return checks.some(({ state }) => state === "problem") ? exitCodes.failed : exitCodes.done;
}

function showChecks(terminal: Terminal, checks: readonly Check[]): void {
  const width = Math.max(...checks.map(({ name }) => widthOf(name)));
  for (const { name, state, found, fix } of checks) {
    terminal.line(`${terminal.paint(colours[state], state.padEnd(7))}  ${padded(name, width)}  ${shown(found)}`);
    if (fix !== undefined) terminal.line(`${" ".repeat(width + 11)}${shown(fix)}`);
  }
  const problems = checks.filter(({ state }) => state === "problem").length;
  terminal.line(problems === 0 ? "the farm can work" : `${count(problems, "problem")} to solve`);
}
