/** What agents ask of the active coordinator. Apart from `farm-client.ts`, because an agent has no use for the words of the CLI. */
import { UnavailableError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { type Ask, AskAnswer } from "#protocol/messages.ts";
import { askSubject } from "#protocol/names.ts";
import type { Connection } from "#bus/connection.ts";
import { request } from "#bus/rpc.ts";

/** Long enough for a commit behind a slow disk, short enough to be repeated soon: every question is idempotent. */
const askTimeoutMs = 2_000;

/** Has the coordinator make ready what this agent pulls its lane by. @throws UnavailableError, also when it will not */
export async function askForLane(connection: Connection, agent: AgentId, lane: Lane, slots: number): Promise<void> {
  const { verdict, reason = "" } = await askCoordinator(connection, agent, { v: 1, kind: "open-lane", lane, slots });
  if (verdict !== "noted")
    throw new UnavailableError("lane-closed", `the coordinator does not open the lane: ${reason}`);
}

/** @throws UnavailableError when no coordinator answers; the agent asks again. */
export function askCoordinator(connection: Connection, agent: AgentId, ask: Ask): Promise<AskAnswer> {
  return request(connection, askSubject(agent), ask, AskAnswer, askTimeoutMs);
}
