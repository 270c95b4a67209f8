/** `flashyard cancel`: ends jobs, chains or all work, and waits until it is over. */
import type { CancelVerdict } from "#protocol/admin.ts";
import { type Chain, jobOf, jobsOf } from "#protocol/chain.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { isTerminal, type Job } from "#protocol/job.ts";
import { padded, widthOf } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { ChainFollower } from "#cli/follow.ts";
import { jobSentence, nameOf } from "#cli/job-sentence.ts";
import { type Refusal, refusal, showRefusals } from "#cli/refusal.ts";
import { count } from "#cli/render.ts";
import { jobFields } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

export interface CancelOptions {
  readonly all?: boolean;
  readonly force?: boolean;
  /** False with `--no-wait`. */
  readonly wait?: boolean;
  readonly json?: boolean;
}

/** What the orders came to. */
interface Orders {
  readonly verdicts: readonly CancelVerdict[];
  /** References that name nothing live. */
  readonly over: readonly string[];
  readonly refused: readonly Refusal[];
}

export async function runCancel(
  session: Session,
  references: readonly string[],
  { all: isAll = false, force: isForced = false, wait = true, json: isJson = false }: CancelOptions,
): Promise<ExitCode> {
  if (isAll === references.length > 0) {
    throw new UsageError("jobs-or-all", "name the jobs to cancel, or say --all for all work of the farm");
  }
  const { terminal } = session;
  await using farm = await Farm.open(session);
  const { verdicts, over, refused } = isAll
    ? await orderAll(farm, isForced)
    : await orderEach(farm, references, isForced);
  showRefusals(terminal, refused, isJson);
  if (isJson) terminal.json({ kind: "cancelling", chains: verdicts });
  else if (isAll) {
    terminal.line(verdicts.length === 0 ? "nothing waits or runs" : `cancelling ${count(verdicts.length, "chain")}`);
  }
  const codes: ExitCode[] = refused.map(() => exitCodes.badInput);
  for (const reference of over) codes.push(await alreadyOver(session, farm, reference, isJson));
  for (const verdict of verdicts) codes.push(showTooLate(session, verdict, isJson));
  if (!wait) {
    if (!isJson) showOrders(session, verdicts);
    return worstOf(codes);
  }
  const cancelled = verdicts.filter(({ jobs }) => jobs.length > 0);
  if (cancelled.length === 0) return worstOf(codes);
  const ended = await untilOver(session, farm, cancelled);
  if (ended === undefined) return exitCodes.detached;
  const jobs = cancelled.flatMap(({ chain, jobs: names }) => {
    const record = ended.get(chain);
    return record === undefined
      ? []
      : jobsOf(record).flatMap((job) => (names.includes(job.name) ? [{ record, job }] : []));
  });
  const nameWidth = Math.max(...jobs.map(({ record }) => widthOf(nameOf(record.configuration))));
  codes.push(...jobs.map(({ record, job }) => showEnd(session, record, job, { isJson, nameWidth })));
  return worstOf(codes);
}

async function orderAll(farm: Farm, isForced: boolean): Promise<Orders> {
  const { chains } = await farm.ask({ v: 1, kind: "cancel", of: { all: true }, isForced }, "cancelling");
  return { verdicts: chains.filter(isLive), over: [], refused: [] };
}

/** One after the other: two references may mean the same chain, which is then named once. */
async function orderEach(farm: Farm, references: readonly string[], isForced: boolean): Promise<Orders> {
  const verdicts = new Map<ChainId, CancelVerdict>();
  const over: string[] = [];
  const refused: Refusal[] = [];
  for (const reference of new Set(references)) {
    try {
      const { chains } = await farm.ask({ v: 1, kind: "cancel", of: { reference }, isForced }, "cancelling");
      const live = chains.filter(isLive);
      // A device that is not asked again runs the build all the same.
      if (live.every(isFlashed)) over.push(reference);
      else for (const verdict of live) verdicts.set(verdict.chain, merged(verdicts.get(verdict.chain), verdict));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      refused.push(refusal(reference, error.message));
    }
  }
  return { verdicts: [...verdicts.values()], over, refused };
}

function isLive({ jobs, tooLate }: CancelVerdict): boolean {
  return jobs.length + tooLate.length > 0;
}

/** Nothing was left of it but the question to its device. */
function isFlashed({ jobs, tooLate }: CancelVerdict): boolean {
  return tooLate.length === 0 && jobs.every((job) => job === "confirm");
}

function merged(before: CancelVerdict | undefined, verdict: CancelVerdict): CancelVerdict {
  if (before === undefined) return verdict;
  const union = <T>(a: readonly T[], b: readonly T[]) => [...new Set([...a, ...b])];
  return { ...verdict, jobs: union(before.jobs, verdict.jobs), tooLate: union(before.tooLate, verdict.tooLate) };
}

function showTooLate({ terminal }: Session, { configuration, tooLate }: CancelVerdict, isJson: boolean): ExitCode {
  if (tooLate.length === 0) return exitCodes.done;
  if (!isJson) {
    const reason =
      "the flash has begun, and a half-written device would be worse: it goes on to its end (over a port --force ends it, and the device needs another flash)";
    terminal.line(`${nameOf(configuration)}: ${reason}`);
  }
  return exitCodes.failed;
}

function showOrders({ terminal }: Session, verdicts: readonly CancelVerdict[]): void {
  for (const { chain, configuration, jobs } of verdicts) {
    if (jobs.length > 0) terminal.line(`${chain}  ${nameOf(configuration)}: cancelling ${jobs.join(" and ")}`);
  }
}

/** The coordinator says `cancelled` only when the agent has proven that nothing of the job is left. */
async function untilOver(
  session: Session,
  farm: Farm,
  verdicts: readonly CancelVerdict[],
): Promise<ReadonlyMap<ChainId, Chain> | undefined> {
  const jobs = new Map(verdicts.map((verdict) => [verdict.chain, verdict.jobs]));
  const isDone = (record: Chain) => (jobs.get(record.id) ?? []).every((name) => isOver(jobOf(record, name)));
  const chains = [...jobs.keys()];
  await using follower = new ChainFollower({ farm, clock: session.clock, chains, isDone });
  await follower.start();
  const end = await follower.untilEnded(session.interrupted);
  if (end === "interrupted") {
    const [first = ""] = chains;
    const next = chains.length === 1 ? `\`flashyard explain ${first}\` says how it stands` : "see `flashyard ps`";
    session.terminal.note(`no longer waiting; ${next}`);
    return undefined;
  }
  const records = new Map(follower.followed().map(({ chain }) => [chain.id, chain]));
  if (end === "ended" && records.size === chains.length) return records;
  throw new UnavailableError("farm-away", "the farm does not say how it ended; the order to cancel is not lost");
}

function isOver(job: Job | undefined): boolean {
  return job === undefined || isTerminal(job.state);
}

/** Says how a job ended; one that was quicker than the order was not cancelled. */
function showEnd(
  { terminal }: Session,
  chain: Chain,
  job: Job,
  { isJson, nameWidth = 0 }: { readonly isJson: boolean; readonly nameWidth?: number },
): ExitCode {
  if (isJson) terminal.json({ kind: "job", ...jobFields(chain, job) });
  else terminal.line(`${padded(nameOf(chain.configuration), nameWidth)}  ${job.name.padEnd(7)}  ${jobSentence(job)}`);
  if (job.state === "cancelled") return exitCodes.done;
  return job.state === "unknown" ? exitCodes.unknown : exitCodes.failed;
}

async function alreadyOver(session: Session, farm: Farm, reference: string, isJson: boolean): Promise<ExitCode> {
  const { chain, job: named } = await farm.ask({ v: 1, kind: "resolve", reference }, "resolved");
  if (!isJson) session.terminal.line(`${chain.id} had already ended:`);
  const jobs = jobsOf(chain).filter(({ name }) => named === undefined || name === named);
  return worstOf(jobs.map((job) => showEnd(session, chain, job, { isJson })));
}
