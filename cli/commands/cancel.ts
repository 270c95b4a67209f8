/** `flashyard cancel`: ends a chain or a job, and waits until it is over. */
import { type Chain, jobOf } from "#protocol/chain.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { isTerminal, type JobName } from "#protocol/job.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import { type AnswerOf, Farm } from "#cli/farm.ts";
import { ChainFollower } from "#cli/follow.ts";
import { jobSentence } from "#cli/job-sentence.ts";
import { jobFields } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

/** @param options `wait`: false with `--no-wait` */
export async function runCancel(
  session: Session,
  reference: string,
  { wait = true, json: isJson = false }: { readonly wait?: boolean; readonly json?: boolean },
): Promise<ExitCode> {
  const { terminal } = session;
  await using farm = await Farm.open(session);
  const verdict = await farm.ask({ v: 1, kind: "cancel", reference }, "cancelling");
  const { chain, jobs, tooLate } = verdict;
  if (jobs.length + tooLate.length === 0) return await alreadyOver(session, farm, verdict, reference, isJson);
  if (tooLate.length > 0 && !isJson) {
    terminal.line("the flash has begun, and a half-written device would be worse: it goes on to its end");
  }
  if (!wait) {
    if (isJson) terminal.json(verdict);
    else if (jobs.length > 0) terminal.line(`${chain}: cancelling ${jobs.join(" and ")}`);
    return tooLate.length > 0 ? exitCodes.failed : exitCodes.done;
  }
  const ended = jobs.length === 0 ? await resolved(farm, chain) : await untilOver(session, farm, verdict);
  if (ended === undefined) return exitCodes.detached;
  const codes = jobs.map((name) => showEnd(session, ended, name, isJson));
  return worstOf([...codes, ...tooLate.map(() => exitCodes.failed)]);
}

/** The coordinator says `cancelled` only when the agent has proven that nothing of the job is left. */
async function untilOver(
  session: Session,
  farm: Farm,
  { chain, jobs }: AnswerOf<"cancelling">,
): Promise<Chain | undefined> {
  const isDone = (record: Chain) => jobs.every((name) => isOver(record, name));
  await using follower = new ChainFollower({ farm, clock: session.clock, chains: [chain], isDone });
  await follower.start();
  const end = await follower.untilEnded(session.interrupted);
  if (end === "interrupted") {
    session.terminal.note(`no longer waiting; \`flashyard explain ${chain}\` says how it stands`);
    return undefined;
  }
  const record = follower.followed()[0]?.chain;
  if (end === "ended" && record !== undefined) return record;
  throw new UnavailableError("farm-away", "the farm does not say how it ended; the order to cancel is not lost");
}

function isOver(chain: Chain, name: JobName): boolean {
  const job = jobOf(chain, name);
  return job === undefined || isTerminal(job.state);
}

/** Says how a job ended; one that was quicker than the order was not cancelled. */
function showEnd({ terminal }: Session, chain: Chain, name: JobName, isJson: boolean): ExitCode {
  const job = jobOf(chain, name);
  if (job === undefined) return exitCodes.done;
  if (isJson) terminal.json({ kind: "job", ...jobFields(chain, job) });
  else terminal.line(`${shown(chain.configuration)}  ${name.padEnd(7)}  ${jobSentence(job)}`);
  if (job.state === "cancelled") return exitCodes.done;
  return job.state === "unknown" ? exitCodes.unknown : exitCodes.failed;
}

async function alreadyOver(
  session: Session,
  farm: Farm,
  { chain: id }: AnswerOf<"cancelling">,
  reference: string,
  isJson: boolean,
): Promise<ExitCode> {
  const { chain, job: named } = await farm.ask({ v: 1, kind: "resolve", reference }, "resolved");
  if (!isJson) session.terminal.line(`${id} had already ended:`);
  const names = named === undefined ? (["compile", "upload"] as const) : [named];
  return worstOf(names.map((name) => showEnd(session, chain, name, isJson)));
}

async function resolved(farm: Farm, chain: string): Promise<Chain> {
  return (await farm.ask({ v: 1, kind: "resolve", reference: chain }, "resolved")).chain;
}
