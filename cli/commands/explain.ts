/** `flashyard explain`: why a job waits, or where it went. */
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import type { Session } from "#cli/session.ts";

export async function runExplain(
  session: Session,
  reference: string,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { chain, lines } = await farm.ask({ v: 1, kind: "explain", reference }, "explained");
  if (isJson) session.terminal.json({ chain, lines });
  else for (const line of [chain, ...lines]) session.terminal.line(shown(line));
  return exitCodes.done;
}
