/** `flashyard ps`: the jobs of the farm. */
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import { describeFailure } from "#protocol/failure.ts";
import { isTerminal, type Job } from "#protocol/job.ts";
import type { Progress } from "#protocol/messages.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { endedChains } from "#cli/ended-chains.ts";
import { Farm } from "#cli/farm.ts";
import { agentOf, causeSentence, progressSentence } from "#cli/job-sentence.ts";
import { liveChains } from "#cli/live-chains.ts";
import { ago, duration, table } from "#cli/render.ts";
import { jobFields } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

/** What fits a few screens; older jobs are found by their name with `explain` and `logs`. */
const endedShown = 50;

export interface JobRow {
  readonly chain: Chain;
  readonly job: Job;
  readonly progress?: Progress | undefined;
}

export async function runPs(
  session: Session,
  { all: isAll = false, json: isJson = false }: { readonly all?: boolean; readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  // One that has just ended is still among them.
  const live = (await liveChains(farm)).filter(({ chain }) => isAll || !isFinished(chain));
  const known = new Set(live.map(({ chain }) => chain.id));
  const ended = isAll ? await endedChains(farm, { isFailed: false, limit: endedShown }) : [];
  const older = ended.filter((chain) => !known.has(chain.id)).map((chain) => ({ chain, progress: undefined }));
  const all = [...older, ...live].sort((a, b) => (a.chain.id < b.chain.id ? -1 : 1));
  const rows = all.flatMap(({ chain, progress }) =>
    jobsOf(chain).map((job) => ({ chain, job, progress: job.state === "running" ? progress : undefined })),
  );
  const { terminal } = session;
  if (isJson) {
    for (const { chain, job, progress } of rows) {
      terminal.json({ ...jobFields(chain, job), ...(progress === undefined ? {} : { progress }) });
    }
    return exitCodes.done;
  }
  if (rows.length === 0) {
    terminal.line(`nothing waits or runs${isAll ? "" : "; `flashyard ps --all` shows what has ended as well"}`);
    return exitCodes.done;
  }
  const columns = terminal.isLive ? terminal.size().columns : undefined;
  for (const line of jobTable(rows, session.clock.now(), columns)) terminal.line(line);
  return exitCodes.done;
}

/** Pure. */
export function jobTable(rows: readonly JobRow[], now: number, columns?: number): readonly string[] {
  const cells = rows.map(({ chain, job, progress }) => [
    chain.id,
    chain.configuration,
    job.name,
    job.state,
    agentOf(job) ?? "",
    timeOf(job, now),
    detailOf(job, progress),
  ]);
  return table(["CHAIN", "CONFIGURATION", "JOB", "STATE", "AGENT", "TIME", "DETAIL"], cells, columns);
}

/** How long it waits or runs; how long ago it ended. */
function timeOf(job: Job, now: number): string {
  if (isTerminal(job.state)) return job.endedAt === undefined ? "" : ago(job.endedAt, now);
  const since = job.state === "queued" ? job.queuedAt : (job.startedAt ?? job.dispatchedAt);
  return since === undefined ? "" : duration(now - since);
}

function detailOf(job: Job, progress: Progress | undefined): string {
  if (progress !== undefined) return progressSentence(progress);
  if (job.outcome?.kind === "failed") return describeFailure(job.outcome.failure);
  if (job.outcome?.kind === "cancelled") return causeSentence(job.outcome);
  return job.earlier.length > 0 && job.state === "queued" ? `attempt ${job.attempt + 1}` : "";
}
