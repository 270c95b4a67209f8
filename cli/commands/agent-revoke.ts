/** `flashyard agent revoke`: an agent may not work for the farm any more. */
import type { AgentId } from "#protocol/ids.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import type { Session } from "#cli/session.ts";

export async function runAgentRevoke(
  session: Session,
  agent: AgentId,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { isCut } = await farm.ask({ v: 1, kind: "revoke-agent", agent }, "agent-revoked");
  const { terminal } = session;
  if (isJson) terminal.json({ kind: "agent-revoked", agent, isCut });
  else if (isCut) terminal.line(`${agent} is revoked: its connection is cut, and it does not come back`);
  else terminal.line(`${agent} is revoked and gets no jobs; the NATS servers will be told as soon as they can be`);
  return exitCodes.done;
}
