/** Hands chains over to the farm, and follows them. What `install`, `build` and `upload` share. */
import { randomBytes } from "node:crypto";
import { poll } from "#actor/clock.ts";
import { seal } from "#actor/sealing.ts";
import type { AgentView, ChainRequest } from "#protocol/admin.ts";
import { type Chain, isSettled } from "#protocol/chain.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { type AgentId, type ChainId, chainIdFrom, type Label } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { secretPurpose, withRequestSecrets } from "#protocol/target-secrets.ts";
import { isAtLeast, type SandboxLevel } from "#protocol/sandbox.ts";
import { shown, widthOf } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import type { AnswerOf, Farm } from "#cli/farm.ts";
import { ChainFollower } from "#cli/follow.ts";
import { followToEnd, summarize } from "#cli/follow-to-end.ts";
import { summarySentence } from "#cli/outcome.ts";
import type { Refusal } from "#cli/refusal.ts";
import { count } from "#cli/render.ts";
import { reporterFor } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

export interface SubmitOptions {
  readonly isDetached: boolean;
  readonly isJson: boolean;
  /** Inputs that could not be used; they have been shown, and count for the exit code. */
  readonly refused: readonly Refusal[];
  /** Waits also for the word that devices give a minute after their flash. */
  readonly isConfirmed?: boolean;
}

export interface Submitted {
  readonly code: ExitCode;
  /** As they stood at the end; empty when nobody waited for it. */
  readonly chains: readonly Chain[];
}

/** A coordinator whose machine starts again is back after this, or something is wrong with it. */
const submitMsMax = 30_000;

export function newChainId(session: Session): ChainId {
  return chainIdFrom(session.clock.now(), randomBytes(6));
}

/** `requests` may be empty when everything was refused. @throws UsageError, UnavailableError */
export async function submitAndFollow(
  session: Session,
  farm: Farm,
  requests: readonly ChainRequest[],
  options: SubmitOptions,
): Promise<Submitted> {
  const { terminal, clock } = session;
  const { isJson, isDetached, refused, isConfirmed = false } = options;
  const refusedCodes = refused.map(() => exitCodes.badInput);
  if (requests.length === 0) {
    const code = worstOf(refusedCodes);
    if (isJson) summarize(session, { chains: [], lost: [] }, refused, code);
    return { code, chains: [] };
  }
  await hintAtMissingAgents(session, farm, requests);
  const nameWidth = Math.max(...requests.map(({ configuration }) => widthOf(shown(configuration))));
  const reporter = reporterFor(terminal, clock, { isJson, nameWidth });
  const ids = requests.map(({ id }) => id);
  await using follower = new ChainFollower({
    farm,
    clock,
    chains: ids,
    ...(isConfirmed ? {} : { isDone: isSettled }),
    events: isDetached ? {} : reporter,
  });
  if (!isDetached) await follower.start();
  const accepted = await submit(
    session,
    farm,
    requests.map((request) => sealed(farm, request)),
  );
  showAccepted(session, requests, accepted, options);
  if (isDetached) return { code: worstOf(refusedCodes), chains: [] };

  const ended = await followToEnd(session, follower, reporter, nextSteps(ids));
  if (ended === undefined) return { code: exitCodes.detached, chains: [] };
  const code = worstOf([...ended.codes, ...refusedCodes]);
  if (isJson) summarize(session, ended, refused, code);
  else if (ended.codes.length + refused.length > 1) terminal.line(summarySentence(ended.codes, refused.length));
  return { code, chains: ended.chains };
}

/** Nobody on the way, and no disk, is to know what opens a device: only the farm, which tells the agent that flashes it. */
function sealed({ credentials }: Farm, request: ChainRequest): ChainRequest {
  if (credentials === undefined) return request;
  const purpose = secretPurpose(request.id);
  return withRequestSecrets(request, (secret) => seal(credentials.farm.seal, secret, purpose));
}

/** Asks again while nobody answers; the coordinator starts no chain twice. */
async function submit(session: Session, farm: Farm, requests: readonly ChainRequest[]): Promise<AnswerOf<"accepted">> {
  const { clock, interrupted } = session;
  let last: unknown;
  const limits = { everyMs: 300, withinMs: submitMsMax, signal: interrupted };
  const accepted = await poll(clock, limits, async () => {
    try {
      return await farm.askOnce({ v: 1, kind: "submit", chains: [...requests] }, "accepted");
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (last === undefined) session.terminal.note("the coordinator does not answer yet; trying again");
      last = error;
      return undefined;
    }
  });
  if (accepted !== undefined) return accepted;
  const ids = requests.map(({ id }) => id).join(" ");
  const message = `no coordinator confirmed the request; if \`flashyard ps --all\` shows it, it was accepted: ${ids}`;
  throw new UnavailableError("not-confirmed", message, { cause: last });
}

function showAccepted(
  { terminal }: Session,
  requests: readonly ChainRequest[],
  { superseded }: AnswerOf<"accepted">,
  { isJson, isDetached }: SubmitOptions,
): void {
  if (isJson) {
    const chains = requests.map(({ id, kind, configuration }) => ({ chain: id, asked: kind, configuration }));
    terminal.json({ kind: "accepted", chains, superseded });
    return;
  }
  if (superseded.length > 0) terminal.note(`${count(superseded.length, "older request")} gave way`);
  if (!isDetached) return;
  for (const { id, configuration } of requests) terminal.line(`${id}  ${shown(configuration)}`);
}

/** What can be done with chains instead of waiting for them. */
export function nextSteps(chains: readonly ChainId[]): string {
  const [first] = chains;
  if (chains.length > 1 || first === undefined) {
    return "see `flashyard ps`, follow one with `flashyard logs CONFIGURATION -f`, cancel it with `flashyard cancel CONFIGURATION`";
  }
  return `follow with \`flashyard logs ${first} -f\`, cancel with \`flashyard cancel ${first}\``;
}

/** A job that no agent can take waits for one, which looks like nothing happening. */
async function hintAtMissingAgents(session: Session, farm: Farm, requests: readonly ChainRequest[]): Promise<void> {
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  const hints = [
    ...missingAgents(
      agents,
      "compile",
      requests.flatMap(({ build, route }) => (build === undefined ? [] : [route ?? { labels: [] }])),
    ),
    ...missingAgents(
      agents,
      "upload",
      requests.flatMap(({ upload }) => (upload === undefined ? [] : [{ on: upload.on, labels: upload.labels ?? [] }])),
    ),
  ];
  for (const hint of new Set(hints)) session.terminal.note(hint);
}

interface WantedAgent {
  readonly on?: AgentId | undefined;
  readonly labels: readonly Label[];
  readonly sandbox?: SandboxLevel | undefined;
}

/** What jobs of a lane will wait for. Pure. */
export function missingAgents(
  agents: readonly AgentView[],
  lane: Lane,
  wanted: readonly WantedAgent[],
): readonly string[] {
  const online = agents.filter((agent) => agent.online && agent.announcement.lane === lane);
  const working = online.filter(({ isDrained }) => !isDrained).map(({ announcement }) => announcement);
  if (wanted.length === 0) return [];
  if (working.length === 0) {
    const what = online.length === 0 ? "online" : "given work: all are drained";
    return [`no ${lane} agent is ${what}; the jobs wait until one is (\`flashyard agents\`)`];
  }
  return wanted.flatMap(({ on, labels, sandbox }) => {
    const fitting = working.filter(
      (announcement) =>
        labels.every((label) => announcement.labels?.includes(label)) &&
        (sandbox === undefined || isAtLeast(announcement.compile?.sandbox, sandbox)),
    );
    if (fitting.some((announcement) => on === undefined || announcement.agent === on)) return [];
    const name = on === undefined ? `no ${lane} agent` : `no ${lane} agent called ${on}`;
    const traits = [
      ...(labels.length === 0 ? [] : [`carries ${labels.join(" and ")}`]),
      ...(sandbox === undefined ? [] : [`builds at sandbox level ${sandbox} or stronger`]),
    ];
    const carrying = traits.length === 0 ? "" : ` that ${traits.join(" and ")}`;
    const others = working.map((announcement) => announcement.agent).join(", ");
    return [`${name}${carrying} is online (there is ${others}): the job waits for it`];
  });
}
