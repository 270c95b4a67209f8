/** Turns what agents say into events. What cannot be decoded is logged and left unanswered or refused. */
import { decode } from "#protocol/envelope.ts";
import { askBytesMax } from "#protocol/limits.ts";
import { Ask, type AskAnswer } from "#protocol/messages.ts";
import { agentOfAsk } from "#protocol/names.ts";
import type { Call, CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import type { Answers } from "#coordinator/answers.ts";
import type { AnswerTo, FarmEvent } from "#coordinator/core/events.ts";
import type { BootId } from "#protocol/ids.ts";

const eventKind = { claim: "job-claimed", "flash-claim": "flash-claimed", report: "job-reported" } as const;

/** Serves the claims and reports of all agents. `post` refuses when the mailbox is full; the agent then asks again. */
export function serveAgents(
  world: Pick<CoordinatorPorts, "serveAsks">,
  answers: Answers,
  log: Log,
  post: (event: FarmEvent) => boolean,
): Listening {
  return world.serveAsks((call) => {
    const event = eventOf(call, answers, log);
    if (event !== undefined && !post(event)) answers.forget(event.answerTo);
  });
}

type AgentEvent = Extract<FarmEvent, { readonly answerTo: AnswerTo; readonly boot: BootId }>;

function eventOf(call: Call, answers: Answers, log: Log): AgentEvent | undefined {
  const agent = agentOfAsk(call.subject);
  if (call.bytes.length > askBytesMax) {
    const reason = `the message has ${call.bytes.length} bytes, at most ${askBytesMax} are allowed`;
    log.warn({ subject: call.subject, reason }, "an agent's message is too large");
    call.answer({ v: 1, verdict: "drop", reason } satisfies AskAnswer);
    return undefined;
  }
  const decoded = decode(Ask, call.bytes);
  if (agent === undefined || !decoded.ok) {
    log.warn(
      { subject: call.subject, err: decoded.ok ? undefined : decoded.error },
      "an agent's message cannot be decoded",
    );
    call.answer({ v: 1, verdict: "drop", reason: "the message cannot be decoded" } satisfies AskAnswer);
    return undefined;
  }
  const { kind, boot, chain, job, attempt } = decoded.value;
  const from = { agent, boot, chain, job, attempt, answerTo: answers.expect(call) };
  return decoded.value.kind === "report"
    ? { kind: "job-reported", result: decoded.value.result, ...from }
    : { kind: eventKind[kind as "claim" | "flash-claim"], ...from };
}
