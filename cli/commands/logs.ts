/** `flashyard logs`: what the tools of a job have printed; with `--serial`, see `serial-log.ts`. */
import { type Chain, isSettled, jobOf, jobsOf } from "#protocol/chain.ts";
import { UnavailableError, UsageError } from "#protocol/errors.ts";
import { type ChainId, jobRef } from "#protocol/ids.ts";
import { isTerminal, type JobName } from "#protocol/job.ts";
import { readJobLog } from "#bus/job-log.ts";
import { shown } from "#cli/clean-text.ts";
import { runSerialLog } from "#cli/commands/serial-log.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { ChainFollower, type FollowEnd } from "#cli/follow.ts";
import { jobSentence } from "#cli/job-sentence.ts";
import { codeOfChain } from "#cli/outcome.ts";
import type { Session } from "#cli/session.ts";

interface Wanted {
  readonly chain: ChainId;
  readonly jobs: readonly JobName[];
  readonly isJson: boolean;
}

export interface LogsOptions {
  readonly follow?: boolean;
  readonly serial?: string;
  readonly agent?: string;
  readonly baud?: number;
  readonly json?: boolean;
}

export async function runLogs(
  session: Session,
  reference: string | undefined,
  options: LogsOptions,
): Promise<ExitCode> {
  const { follow: isFollowing = false, serial, agent, baud, json: isJson = false } = options;
  if ((reference === undefined) === (serial === undefined)) {
    throw new UsageError(
      "job-or-port",
      "name a job, or a port with --serial: `flashyard logs lamp` or `flashyard logs --serial bench`",
    );
  }
  if (serial !== undefined) return await runSerialLog(session, { ...options, serial });
  if (agent !== undefined || baud !== undefined) {
    throw new UsageError("only-serial", "--agent and --baud go with --serial");
  }
  return await runJobLog(session, reference ?? "", isFollowing, isJson);
}

async function runJobLog(
  session: Session,
  reference: string,
  isFollowing: boolean,
  isJson: boolean,
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { chain, job } = await farm.ask({ v: 1, kind: "resolve", reference }, "resolved");
  const jobs = job === undefined ? jobsOf(chain).map(({ name }) => name) : [job];
  const wanted = { chain: chain.id, jobs, isJson };
  if (isFollowing && !isDone(chain, job)) return await follow(session, farm, wanted, job);
  const printed = await printLog(session, farm, wanted, 0);
  if (printed === 0)
    session.terminal.note(`there is no log of ${job === undefined ? chain.id : jobRef(chain.id, job)}`);
  // Whoever follows cannot know that it was over just before.
  return isFollowing ? showEnd(session, wanted, chain) : exitCodes.done;
}

function showEnd({ terminal }: Session, { jobs, isJson }: Wanted, ended: Chain): ExitCode {
  for (const job of jobsOf(ended)) {
    if (!isJson && jobs.includes(job.name)) terminal.note(`${job.name}: ${jobSentence(job)}`);
  }
  return codeOfChain(ended);
}

function isDone(chain: Chain, job: JobName | undefined): boolean {
  if (job === undefined) return isSettled(chain);
  const state = jobOf(chain, job)?.state;
  return state === undefined || isTerminal(state);
}

/** Prints as lines come until the chain has ended, and then what came last. An agent stores its log before it reports. */
async function follow(session: Session, farm: Farm, wanted: Wanted, job: JobName | undefined): Promise<ExitCode> {
  const { clock, interrupted } = session;
  const options = { farm, clock, chains: [wanted.chain], isDone: (chain: Chain) => isDone(chain, job) };
  await using follower = new ChainFollower(options);
  await follower.start();
  const over = new AbortController();
  const reading = printWhile(session, farm, wanted, over.signal);
  let end: FollowEnd;
  let printed: number;
  try {
    end = await follower.untilEnded(interrupted);
  } finally {
    over.abort();
    printed = await reading;
  }
  if (end === "interrupted") return exitCodes.detached;
  if (end === "away") throw new UnavailableError("farm-away", "the farm has not answered for ten minutes");
  await printLog(session, farm, wanted, printed);
  const ended = follower.followed()[0]?.chain;
  return ended === undefined ? exitCodes.unknown : showEnd(session, wanted, ended);
}

/** @returns how many lines were printed. A stream that breaks off is read again and goes on where it was. */
async function printWhile(session: Session, farm: Farm, wanted: Wanted, until: AbortSignal): Promise<number> {
  let printed = 0;
  while (!until.aborted) {
    try {
      for await (const { line, job, at } of numbered(readJobLog(farm.connection, wanted.chain, wanted.jobs, until))) {
        if (at < printed) continue;
        printLine(session, wanted, job, line);
        printed = at + 1;
      }
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
    }
    await session.clock.pause(200, until);
  }
  return printed;
}

/** Prints what is stored behind the first `skip` lines. @returns the number of lines that there are */
async function printLog(session: Session, farm: Farm, wanted: Wanted, skip: number): Promise<number> {
  let total = 0;
  for await (const { line, job, at } of numbered(readJobLog(farm.connection, wanted.chain, wanted.jobs))) {
    total = at + 1;
    if (at >= skip) printLine(session, wanted, job, line);
  }
  return total;
}

async function* numbered<T extends object>(lines: AsyncIterable<T>): AsyncGenerator<T & { readonly at: number }> {
  let at = 0;
  for await (const line of lines) {
    yield { ...line, at };
    at += 1;
  }
}

function printLine({ terminal }: Session, { jobs, isJson, chain }: Wanted, job: JobName, line: string): void {
  if (isJson) terminal.json({ chain, job, line });
  else terminal.line(jobs.length > 1 ? `${job.padEnd(7)} | ${shown(line)}` : shown(line));
}
