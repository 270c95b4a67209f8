/** `flashyard reset`: ends all work and takes every build tree away. */
import { isFinished } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { everyConfiguration } from "#protocol/ids.ts";
import { shown } from "#cli/clean-text.ts";
import type { ExitCode } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { liveChains } from "#cli/live-chains.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { takeTreesAway } from "#cli/tree-removal.ts";

export interface ResetOptions {
  readonly yes?: boolean;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runReset(
  session: Session,
  { yes: isConfirmed = false, detach: isDetached = false, json: isJson = false }: ResetOptions,
): Promise<ExitCode> {
  requireSomebody(session, isConfirmed);
  await using farm = await Farm.open(session);
  await confirmReset(session, farm, isConfirmed);
  return await takeTreesAway(session, farm, [everyConfiguration], { isDetached, isJson });
}

/**
 * Says what will be lost, and waits for a `yes`, unless that was said already.
 * @throws UsageError `not-confirmed` for any other answer, and where nobody can be asked
 */
export async function confirmReset(session: Session, farm: Farm, isConfirmed: boolean): Promise<void> {
  requireSomebody(session, isConfirmed);
  if (isConfirmed) return;
  const { terminal, interrupted } = session;
  const live = await liveChains(farm);
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  const unfinished = live.filter(({ chain }) => !isFinished(chain)).length;
  const builders = agents.filter(({ announcement, online }) => online && announcement.lane === "compile");
  const names = builders.map(({ announcement }) => announcement.agent).join(", ");
  terminal.note(
    shown(`This cancels ${count(unfinished, "chain")} and takes every build tree away from ${names || "no agent"}.`),
  );
  const answer = await terminal.ask("Type yes to go on: ", interrupted);
  interrupted.throwIfAborted();
  if (answer.trim().toLowerCase() !== "yes") {
    throw new UsageError("not-confirmed", "nothing was done: the answer was not yes");
  }
}

/** Before the farm is asked for anything. */
function requireSomebody({ terminal }: Session, isConfirmed: boolean): void {
  if (isConfirmed || terminal.canAsk) return;
  const message = "a reset ends all work and takes every build tree away: where nobody can be asked, it needs --yes";
  throw new UsageError("not-confirmed", message);
}
