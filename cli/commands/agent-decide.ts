/** `flashyard agent approve` and `reject`: a person decides about a machine that waits. */
import { UsageError } from "#protocol/errors.ts";
import { type Guest, readPairings } from "#cli/commands/agent-ls.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import type { Session } from "#cli/session.ts";

/** @param who a name, or four words, in one argument or in four */
export async function runAgentDecide(
  session: Session,
  who: readonly string[],
  isApproved: boolean,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { guests } = await readPairings(farm);
  const guest = guestNamed(guests, who.join(" "));
  const { agent, user, lane, host, words } = guest;
  await farm.ask({ v: 1, kind: "decide-pairing", user, isApproved }, "pairing-decided");
  const { terminal } = session;
  if (isJson) terminal.json({ kind: "pairing-decided", agent, isApproved, words });
  else if (isApproved) terminal.line(`${agent} on ${shown(host)} is paired for the ${lane} lane: ${words}`);
  else terminal.line(`${agent} on ${shown(host)} is turned away`);
  return exitCodes.done;
}

/** Pure. @throws UsageError for nobody, and for a name that several want */
export function guestNamed(guests: readonly Guest[], who: string): Guest {
  const wanted = who
    .trim()
    .toLowerCase()
    .replaceAll(/[\s-]+/g, " ");
  const found = guests.filter(({ agent, words }) => agent === who.trim() || words === wanted);
  const [first, ...others] = found;
  if (first !== undefined && others.length === 0) return first;
  if (first !== undefined) {
    const list = found.map(({ words, host }) => `${words} (${shown(host)})`).join("; ");
    throw new UsageError(
      "ambiguous",
      `${found.length} machines want to be ${first.agent}; name one by its words: ${list}`,
    );
  }
  const waiting = guests.map(({ agent, words }) => `${agent} (${words})`).join(", ");
  const rest = guests.length === 0 ? "none waits" : `these do: ${waiting}`;
  throw new UsageError("not-found", `no machine that waits is ${JSON.stringify(shown(who))}: ${rest}`);
}
