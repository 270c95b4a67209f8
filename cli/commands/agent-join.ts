/** `flashyard agent join`: this machine becomes an agent of a farm. */
import { hostname } from "node:os";
import { join } from "node:path";
import { credentialsFile, defaultHome, machineName } from "#actor/agent-settings.ts";
import { whileUnavailable } from "#actor/patience.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { type JoinLine, readJoinLine } from "#protocol/join-line.ts";
import type { PairAnswer } from "#protocol/pairing.ts";
import type { Connection } from "#bus/connection.ts";
import { type Candidate, candidateIn, forgetCandidate } from "#bus/identity/candidate.ts";
import { type Credentials, readCredentials, writeCredentials } from "#bus/identity/credentials.ts";
import { askToJoin, connectAsStranger, farmBehind } from "#bus/identity/joining.ts";
import { pairingWords } from "#bus/identity/pairing-words.ts";
import { shownServers } from "#bus/server-addresses.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import type { Session } from "#cli/session.ts";

export interface JoinOptions {
  readonly compile?: boolean;
  readonly upload?: boolean;
  readonly name?: AgentId;
  readonly home?: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

/** A person who has just approved sees it at once. */
const askAgainMs = 1_000;

export async function runAgentJoin(session: Session, text: string, options: JoinOptions): Promise<ExitCode> {
  const { terminal, environment } = session;
  const line = readJoinLine(text);
  if (line === undefined) {
    throw new UsageError(
      "bad-line",
      "that is no line of `flashyard agent pair`, or a part of it is missing: it begins with fyj1. and has no spaces",
    );
  }
  const lane = laneOf(options);
  const agent = AgentId.parse(options.name ?? `${machineName()}-${lane}`);
  const home = options.home ?? environment["FLASHYARD_HOME"] ?? join(defaultHome(environment), agent);
  const path = credentialsFile(home);
  await requireFree(path);
  if (!(await wants(session, { line, agent, lane, home, isSure: options.yes === true }))) return exitCodes.cancelled;
  const connection = await connectAsStranger(line);
  try {
    const farm = await farmBehind(connection, line.pin);
    const candidate = await candidateIn(home, line, { agent, lane, host: hostname() });
    const { user, seal } = candidate.identity;
    const words = pairingWords(line.pin, user, seal);
    terminal.note(`this machine is: ${words}`);
    const token = await untilLetIn(session, connection, line, candidate);
    if (token === undefined) return exitCodes.cancelled;
    const { seed, unseal } = candidate;
    await writeCredentials(path, credentialsOf({ agent, lane, line, token, seed, unseal, farm }));
    await forgetCandidate(home);
    if (options.json === true) terminal.json({ kind: "joined", agent, lane, home, credentials: path, words });
    else for (const said of startLines(agent, lane, home)) terminal.line(said);
    return exitCodes.done;
  } finally {
    await connection.close();
  }
}

function laneOf({ compile = false, upload = false }: JoinOptions): Lane {
  if (compile !== upload) return compile ? "compile" : "upload";
  throw new UsageError(
    "bad-option",
    "say what this machine is to do: --compile builds, --upload flashes; both are two agents",
  );
}

async function requireFree(path: string): Promise<void> {
  const found = await readCredentials(path);
  if (found === undefined) return;
  const who = found.role.kind === "agent" ? `the agent ${found.role.agent}` : found.role.kind;
  const message = `${path} is there already, of ${who} at ${shownServers(found.servers)}: name another folder with --home (a machine may work for several farms), or take the file away`;
  throw new UsageError("home-in-use", message);
}

interface Plan {
  readonly line: JoinLine;
  readonly agent: AgentId;
  readonly lane: Lane;
  readonly home: string;
  readonly isSure: boolean;
}

/** Asks whoever sits there; a script has been asked already. */
async function wants(session: Session, { line, agent, lane, home, isSure }: Plan): Promise<boolean> {
  const { terminal, interrupted } = session;
  terminal.note(
    `the farm at ${shownServers(line.servers)}, pin ${line.pin.slice(0, 16)}…, as the ${lane} agent ${agent}, in ${home}`,
  );
  if (isSure || !terminal.canAsk) return true;
  const answer = await terminal.ask("join it? [y/N] ", interrupted);
  return /^y(es)?$/i.test(answer.trim());
}

/** @returns the token; undefined after Ctrl-C, and then the same line goes on with the same keys. @throws UsageError when it is turned away */
async function untilLetIn(
  session: Session,
  connection: Connection,
  line: JoinLine,
  candidate: Candidate,
): Promise<string | undefined> {
  const { terminal, clock, interrupted } = session;
  let hasSaid = false;
  while (!interrupted.aborted) {
    const answer = await whileUnavailable(
      clock,
      interrupted,
      () => askToJoin(connection, line, candidate),
      (error) => terminal.note(`${error.message}: asking again`),
    );
    if (answer === undefined) return undefined;
    const token = tokenIn(answer);
    if (token !== undefined) return token;
    if (!hasSaid)
      terminal.note("waiting until somebody lets it in with `flashyard agent approve`, who sees the same words");
    hasSaid = true;
    await clock.pause(askAgainMs, interrupted);
  }
  return undefined;
}

function tokenIn(answer: PairAnswer): string | undefined {
  switch (answer.kind) {
    case "joined":
      return answer.token;
    case "waiting":
      return undefined;
    case "refused":
      throw new UsageError(answer.code, `the farm does not let this machine in: ${answer.message}`);
    case "farm":
      throw new UnavailableError("wrong-answer", "the farm has answered something else than was asked");
  }
}

function credentialsOf({
  agent,
  lane,
  line,
  ...secrets
}: { readonly agent: AgentId; readonly lane: Lane; readonly line: JoinLine } & Pick<
  Credentials,
  "token" | "seed" | "farm"
> & { readonly unseal: string }): Credentials {
  return { v: 1, role: { kind: "agent", agent, lane }, servers: line.servers, ...secrets };
}

function startLines(agent: AgentId, lane: Lane, home: string): readonly string[] {
  return [
    `${agent} has joined. Start it with`,
    `  FLASHYARD_AGENT=${agent} FLASHYARD_HOME=${home} node ${lane}-agent/main.ts`,
    `or as a service, with these two in /etc/flashyard/${lane}-agent.env: systemctl enable --now flashyard-${lane}-agent`,
  ];
}
