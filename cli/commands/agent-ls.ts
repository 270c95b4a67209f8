/** `flashyard agent ls`: who waits, who is paired, who was revoked. */
import type { AdminAnswer, GuestView } from "#protocol/admin.ts";
import { pairingWords } from "#bus/identity/pairing-words.ts";
import { openFarm } from "#cli/commands/agent-pair.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { duration, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export type Guest = GuestView & { readonly words: string };
export type Pairings = Omit<Extract<AdminAnswer, { readonly kind: "pairings" }>, "guests"> & {
  readonly guests: readonly Guest[];
};

/** Machines that wait, each with the words that it shows itself. */
export async function readPairings(farm: Farm): Promise<Pairings> {
  const { credentials } = farm;
  if (credentials === undefined) throw openFarm();
  const { pin } = credentials.farm;
  const pairings = await farm.ask({ v: 1, kind: "pairings" }, "pairings");
  const guests = pairings.guests.map((guest) => ({ ...guest, words: pairingWords(pin, guest.user, guest.seal) }));
  return { ...pairings, guests };
}

export async function runAgentList(
  session: Session,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const pairings = await readPairings(farm);
  const { terminal, clock } = session;
  if (isJson) {
    for (const guest of pairings.guests) terminal.json({ kind: "guest", ...guest });
    for (const agent of pairings.paired) terminal.json({ kind: "agent", ...agent });
    return exitCodes.done;
  }
  for (const line of pairingTable(pairings, clock.now())) terminal.line(line);
  if (pairings.guests.length > 0)
    terminal.note("let one in with `flashyard agent approve NAME`, when the words are the same there");
  if (pairings.guests.length + pairings.paired.length === 0) {
    terminal.line("no machine is paired: `flashyard agent pair` makes a line for one");
  }
  return exitCodes.done;
}

/** Pure. */
export function pairingTable({ guests, paired }: Pairings, now: number): readonly string[] {
  if (guests.length + paired.length === 0) return [];
  const waiting = guests.map(({ agent, lane, host, until, words, replaces }) => {
    const taken = replaces === undefined ? "" : `, takes the name from ${shown(replaces)}`;
    return [agent, lane, "waits", shown(host), `${words} (for ${duration(until - now)} more${taken})`];
  });
  const known = paired.map(({ agent, lane, host, state, by, pairedAt, revokedAt, expiresAt = now }) => {
    const end = expiresAt < now ? "its token has ended" : `token until ${dateOf(expiresAt)}`;
    const facts =
      state === "revoked"
        ? `since ${dateOf(revokedAt ?? pairedAt)}`
        : `since ${dateOf(pairedAt)}, ${by === "code" ? "by its code alone" : `by ${shown(by)}`}; ${end}`;
    return [agent, lane, state, shown(host), facts];
  });
  return table(["AGENT", "LANE", "STATE", "HOST", ""], [...waiting, ...known]);
}

function dateOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
