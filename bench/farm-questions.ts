/** Questions to the coordinator of which only one kind of answer is any use to a benchmark. */
import { poll, systemClock } from "#actor/clock.ts";
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import { InvariantError, UnavailableError } from "#protocol/errors.ts";
import type { Connection } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";

export type AnswerOf<K extends AdminAnswer["kind"]> = Extract<AdminAnswer, { readonly kind: K }>;

/** @throws InvariantError for another answer; UnavailableError */
export async function askFor<K extends AdminAnswer["kind"]>(
  connection: Connection,
  request: AdminRequest,
  kind: K,
): Promise<AnswerOf<K>> {
  const answer = await askAdmin(connection, request);
  if (answer.kind === kind) return answer as AnswerOf<K>;
  throw new InvariantError("unexpected-answer", `the coordinator answered ${JSON.stringify(answer).slice(0, 200)}`);
}

/** Until so many agents are online. @throws UnavailableError */
export async function untilOnline(
  connection: Connection,
  count: number,
  patience: { readonly everyMs: number; readonly withinMs: number },
): Promise<void> {
  const present = await poll(systemClock, patience, async () => {
    const { agents } = await askFor(connection, { v: 1, kind: "agents" }, "agents");
    return agents.filter(({ online }) => online).length === count ? true : undefined;
  });
  if (present !== true) throw new UnavailableError("no-agents", "the coordinator does not see the agents");
}
