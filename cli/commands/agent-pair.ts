/** `flashyard agent pair`: the line with which another machine asks to join. */
import { UsageError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { joinLineOf } from "#protocol/join-line.ts";
import { hashOfCode, newInvitationId, newJoinCode } from "#bus/identity/join-code.ts";
import { isLoopback, requirePrivate, serversIn } from "#bus/server-addresses.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import type { Session } from "#cli/session.ts";

export interface PairOptions {
  readonly compile?: boolean;
  readonly upload?: boolean;
  readonly name?: AgentId;
  readonly minutes?: number;
  readonly address?: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

const defaultMinutes = 15;

/** The code is made here: 80 random bits, good once. The farm gets to know only its hash before a machine uses it. */
export async function runAgentPair(session: Session, options: PairOptions): Promise<ExitCode> {
  const {
    compile = false,
    upload = false,
    name,
    minutes = defaultMinutes,
    address,
    yes: isUnattended = false,
  } = options;
  if (compile && upload) throw new UsageError("bad-option", "a line is for one lane: --compile or --upload, not both");
  const lane: Lane | undefined = compile ? "compile" : upload ? "upload" : undefined;
  if (address !== undefined) requirePrivate(serversIn(address));
  await using farm = await Farm.open(session);
  const { credentials } = farm;
  if (credentials === undefined) throw openFarm();
  const code = newJoinCode();
  const only = { ...(lane === undefined ? {} : { lane }), ...(name === undefined ? {} : { agent: name }) };
  const asked = { id: newInvitationId(), hash: hashOfCode(code), validMs: minutes * 60_000, isUnattended, ...only };
  const { expiresAt } = await farm.ask({ v: 1, kind: "make-invitation", ...asked }, "invitation-made");
  const servers = address ?? session.servers ?? credentials.servers;
  const line = joinLineOf({ servers, pin: credentials.farm.pin, code });
  const flags = [lane === undefined ? "" : ` --${lane}`, name === undefined ? "" : ` --name ${name}`].join("");
  const { terminal } = session;
  if (options.json === true) terminal.json({ kind: "invitation-made", line, expiresAt, servers });
  else terminal.line(`flashyard agent join ${line}${flags}`);
  if (serversIn(servers).every(isLoopback)) {
    terminal.note(
      "this line works on this machine only: start the farm with `flashyard up --host NAME`, and name it with --address tls://NAME:4222",
    );
  }
  const then = isUnattended ? "whoever has it is let in" : "then: flashyard agent approve";
  terminal.note(`good for one machine, for ${minutes} min; ${then}`);
  return exitCodes.done;
}

export function openFarm(): UsageError {
  return new UsageError(
    "open-farm",
    "nobody is signed in to this farm, so nobody can be paired with it: name your credentials in FLASHYARD_CREDENTIALS, or start the farm with `flashyard up`",
  );
}
