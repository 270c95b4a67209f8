/** `flashyard audit`: who has asked the farm to change what. */
import type { AuditEntry } from "#protocol/audit.ts";
import { readAudit } from "#bus/audit-log.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface AuditOptions {
  /** How far back (ms). */
  readonly since?: number;
  readonly limit?: number;
  readonly follow?: boolean;
  readonly json?: boolean;
}

const defaultLimit = 50;
/** Names in one line; `--json` has them all. */
const namesMax = 4;

export async function runAudit(session: Session, options: AuditOptions): Promise<ExitCode> {
  const { since, follow: isFollowing = false, json: isJson = false } = options;
  const { terminal, clock, interrupted } = session;
  const limit = options.limit ?? (since === undefined ? defaultLimit : undefined);
  await using farm = await Farm.open(session);
  const reading = {
    ...(since === undefined ? {} : { since: clock.now() - since }),
    ...(limit === undefined ? {} : { newest: limit }),
    ...(isFollowing ? { follow: interrupted } : {}),
  };
  let entries = 0;
  for await (const entry of readAudit(farm.connection, reading)) {
    entries += 1;
    if (isJson) terminal.json(entry);
    else terminal.line(auditLine(entry));
  }
  if (entries === 0 && !isJson && !isFollowing) terminal.note("nobody has asked for a change in this time");
  return exitCodes.done;
}

/** Pure. One line, oldest facts first: when, who, what. */
export function auditLine({ at, name, by, kind, chains, configurations, agent, detail }: AuditEntry): string {
  const stated = by ?? "somebody";
  const who = name === undefined ? stated : `${name} (says ${stated})`;
  const what = [kind, detail, agent, some(configurations, "configuration"), some(chains, "chain")];
  return shown(`${new Date(at).toISOString()}  ${who}  ${what.filter((part) => part !== undefined).join("; ")}`);
}

function some(names: readonly string[] | undefined, noun: string): string | undefined {
  if (names === undefined || names.length === 0) return undefined;
  return names.length > namesMax ? count(names.length, noun) : names.join(", ");
}
