/** `flashyard drain` and `undrain`: whether agents get work. */
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { agentNamed } from "#cli/flash-wishes.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export async function runDrain(
  session: Session,
  names: readonly string[],
  isDrained: boolean,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  const agents = names.map((name) => agentNamed(isDrained ? "drain" : "undrain", name));
  await using farm = await Farm.open(session);
  for (const agent of agents) {
    const { busy } = await farm.ask({ v: 1, kind: "drain", agent, isDrained }, "drained");
    if (isJson) session.terminal.json({ kind: "drained", agent, isDrained, busy });
    else session.terminal.line(drainSentence(agent, isDrained, busy));
  }
  return exitCodes.done;
}

function drainSentence(agent: string, isDrained: boolean, busy: number): string {
  if (!isDrained) return `${agent} gets work again`;
  return busy === 0
    ? `${agent} gets nothing new, and has nothing left`
    : `${agent} ends ${count(busy, "job")} and gets nothing new`;
}
