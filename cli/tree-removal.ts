/** Has build trees taken away, and follows that to its end. What `clean`, `reset` and `retry` share. */
import type { AdminRequest } from "#protocol/admin.ts";
import { type ChainId, type Configuration, everyConfiguration } from "#protocol/ids.ts";
import { widthOf } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import type { AnswerOf, Farm } from "#cli/farm.ts";
import { ChainFollower } from "#cli/follow.ts";
import { followToEnd, summarize } from "#cli/follow-to-end.ts";
import { nameOf } from "#cli/job-sentence.ts";
import { summarySentence } from "#cli/outcome.ts";
import { count } from "#cli/render.ts";
import { reporterFor } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";
import { newChainId, nextSteps } from "#cli/submit.ts";

export interface RemovalOptions {
  readonly isDetached: boolean;
  readonly isJson: boolean;
}

/**
 * @param owners whose trees go; `*` means all trees of the farm, and all its work
 * @throws UsageError `no-agent`: a reset without a build machine; UnavailableError
 */
export async function takeTreesAway(
  session: Session,
  farm: Farm,
  owners: readonly Configuration[],
  { isDetached, isJson }: RemovalOptions,
): Promise<ExitCode> {
  const { terminal, clock } = session;
  const ids: ChainId[] = [];
  for (const owner of owners) {
    const answer = await farm.ask(removalOf(owner, newChainId(session)), "accepted");
    ids.push(...answer.chains);
    if (isJson) terminal.json({ ...answer, configuration: owner });
    else showAccepted(session, owner, answer, isDetached);
  }
  if (isDetached || ids.length === 0) return exitCodes.done;
  const nameWidth = Math.max(...owners.map((owner) => widthOf(nameOf(owner))));
  const reporter = reporterFor(terminal, clock, { isJson, nameWidth });
  await using follower = new ChainFollower({ farm, clock, chains: ids, events: reporter });
  await follower.start();
  const ended = await followToEnd(session, follower, reporter, nextSteps(ids));
  if (ended === undefined) return exitCodes.detached;
  const code = worstOf(ended.codes);
  if (isJson) summarize(session, ended, [], code);
  else if (ended.codes.length > 1) terminal.line(summarySentence(ended.codes, 0));
  return code;
}

function removalOf(owner: Configuration, id: ChainId): AdminRequest {
  return owner === everyConfiguration ? { v: 1, kind: "reset", id } : { v: 1, kind: "clean", id, configuration: owner };
}

function showAccepted(
  { terminal }: Session,
  owner: Configuration,
  { chains, superseded, away = [] }: AnswerOf<"accepted">,
  isDetached: boolean,
): void {
  const trees = owner === everyConfiguration ? "build trees" : `tree of ${nameOf(owner)}`;
  if (superseded.length > 0) terminal.note(`${count(superseded.length, "chain")} cancelled`);
  for (const agent of away) terminal.note(`${agent} is away and keeps its ${trees}`);
  if (chains.length === 0) terminal.line(`no agent${away.length > 0 ? " that is here" : ""} has a ${trees}`);
  if (isDetached) for (const id of chains) terminal.line(`${id}  ${nameOf(owner)}`);
}
