/** Turns what agents say into events. What cannot be decoded is logged and left unanswered or refused. */
import { decode } from "#protocol/envelope.ts";
import { askBytesMax } from "#protocol/limits.ts";
import { Ask, type AskAnswer, type JobAsk } from "#protocol/messages.ts";
import { agentOfAsk } from "#protocol/names.ts";
import type { Call, CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import type { Answers } from "#coordinator/answers.ts";
import type { AnswerTo, FarmEvent } from "#coordinator/core/events.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Registry } from "#coordinator/registry.ts";
import type { AgentId, BootId } from "#protocol/ids.ts";

const eventKind = { claim: "job-claimed", "flash-claim": "flash-claimed", report: "job-reported" } as const;

/** Serves the claims and reports of all agents. `post` refuses when the mailbox is full; the agent then asks again. */
export function serveAgents(
  world: Pick<CoordinatorPorts, "serveAsks" | "openLane">,
  answers: Answers,
  log: Log,
  post: (event: FarmEvent) => boolean,
  registry: Pick<Registry, "mayAsk">,
): Listening {
  return world.serveAsks((call) => {
    const asked = askOf(call, log);
    if (asked === undefined) return;
    const { agent, ask } = asked;
    if (!registry.mayAsk(agent, ask.kind === "open-lane" ? ask.lane : undefined)) {
      return refuse(call, `${agent} is not paired with this farm, or was revoked`);
    }
    if (ask.kind === "open-lane") return void openLane(world, agent, ask, call);
    const event = eventOf(agent, ask, answers.expect(call));
    if (!post(event)) answers.forget(event.answerTo);
  });
}

/** The agent may not make it itself: whoever may make a consumer chooses whose jobs it delivers. */
async function openLane(
  world: Pick<CoordinatorPorts, "openLane">,
  agent: AgentId,
  { lane, slots }: Extract<Ask, { readonly kind: "open-lane" }>,
  call: Call,
): Promise<void> {
  try {
    await world.openLane(agent, lane, slots);
    call.answer({ v: 1, verdict: "noted" } satisfies AskAnswer);
  } catch (error) {
    // It asks again.
    if (!(error instanceof UnavailableError)) throw error;
    refuse(call, error.message);
  }
}

type AgentEvent = Extract<FarmEvent, { readonly answerTo: AnswerTo; readonly boot: BootId }>;

function askOf(call: Call, log: Log): { readonly agent: AgentId; readonly ask: Ask } | undefined {
  const agent = agentOfAsk(call.subject);
  if (call.bytes.length > askBytesMax) {
    const reason = `the message has ${call.bytes.length} bytes, at most ${askBytesMax} are allowed`;
    log.warn({ subject: call.subject, reason }, "an agent's message is too large");
    return refuse(call, reason);
  }
  const decoded = decode(Ask, call.bytes);
  if (agent !== undefined && decoded.ok) return { agent, ask: decoded.value };
  log.warn(
    { subject: call.subject, err: decoded.ok ? undefined : decoded.error },
    "an agent's message cannot be decoded",
  );
  return refuse(call, "the message cannot be decoded");
}

function refuse(call: Call, reason: string): undefined {
  call.answer({ v: 1, verdict: "drop", reason } satisfies AskAnswer);
  return undefined;
}

function eventOf(agent: AgentId, ask: JobAsk, answerTo: AnswerTo): AgentEvent {
  const { boot, chain, job, attempt } = ask;
  const from = { agent, boot, chain, job, attempt, answerTo };
  return ask.kind === "report"
    ? { kind: "job-reported", result: ask.result, ...from }
    : { kind: eventKind[ask.kind], ...from };
}
