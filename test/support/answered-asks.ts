/** A coordinator that lets agents do whatever they ask for. */
import type { Listening } from "#actor/coordinator-ports.ts";
import type { Connection } from "#bus/connection.ts";
import { openLane } from "#bus/lanes.ts";
import { serve } from "#bus/rpc.ts";
import { decode } from "#protocol/envelope.ts";
import { Ask, type JobAsk } from "#protocol/messages.ts";
import { agentOfAsk, askSubjects } from "#protocol/names.ts";

/** @param hear of claims and reports, before they are answered */
export function answerAsks(connection: Connection, hear: (ask: JobAsk) => void = () => undefined): Listening {
  return serve(connection, askSubjects, (call) => {
    const agent = agentOfAsk(call.subject);
    const decoded = decode(Ask, call.bytes);
    if (agent === undefined || !decoded.ok) throw new Error(`no question of an agent: ${call.subject}`);
    const ask = decoded.value;
    if (ask.kind === "open-lane") {
      const opened = openLane(connection, agent, ask.lane, ask.slots);
      void opened.then(() => call.answer({ v: 1, verdict: "noted" }));
      return;
    }
    hear(ask);
    call.answer({ v: 1, verdict: ask.kind === "report" ? "noted" : "go" });
  });
}
