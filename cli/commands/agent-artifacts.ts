/** `flashyard agent artifacts`: what an agent has built, and whether any of it may be flashed. */
import { UsageError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { nameOf } from "#cli/job-sentence.ts";
import { duration, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface ArtifactsOptions {
  readonly block?: boolean;
  readonly unblock?: boolean;
  readonly json?: boolean;
}

export async function runAgentArtifacts(
  session: Session,
  agent: AgentId,
  { block = false, unblock = false, json: isJson = false }: ArtifactsOptions,
): Promise<ExitCode> {
  if (block && unblock) throw new UsageError("bad-option", "either --block or --unblock");
  await using farm = await Farm.open(session);
  const change = block || unblock ? { isBlocked: block } : {};
  const answer = await farm.ask({ v: 1, kind: "agent-artifacts", agent, ...change }, "agent-artifacts");
  const { terminal, clock } = session;
  if (isJson) {
    terminal.json(answer);
    return exitCodes.done;
  }
  const rows = answer.builds.map(({ chain, configuration, at, images }) => [
    nameOf(configuration),
    chain,
    `${duration(clock.now() - at)} ago`,
    images.map((digest) => digest.slice(0, 12)).join(" "),
  ]);
  if (rows.length > 0)
    for (const line of table(["CONFIGURATION", "CHAIN", "BUILT", "IMAGES"], rows)) terminal.line(line);
  else terminal.line(`nothing in the history was built by ${agent}`);
  if (answer.isBlocked)
    terminal.note(`${agent} is blocked: nothing that it has built is flashed or used again (--unblock)`);
  return exitCodes.done;
}
