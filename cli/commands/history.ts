/** `flashyard history`: what has ended, newest first. */
import { type Chain, jobsOf } from "#protocol/chain.ts";
import { describeFailure } from "#protocol/failure.ts";
import type { Job } from "#protocol/job.ts";
import { configurationNamed } from "#cli/configuration-files.ts";
import { endedChains, endOf } from "#cli/ended-chains.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { agentOf, causeSentence, isMoot } from "#cli/job-sentence.ts";
import { codeOfChain } from "#cli/outcome.ts";
import { ago, duration, table } from "#cli/render.ts";
import { jobFields } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

export interface HistoryOptions {
  readonly failed?: boolean;
  readonly number?: number;
  readonly json?: boolean;
}

const defaultLimit = 20;

export async function runHistory(
  session: Session,
  name: string | undefined,
  { failed: isFailed = false, number: limit = defaultLimit, json: isJson = false }: HistoryOptions,
): Promise<ExitCode> {
  const of = name === undefined ? {} : { configuration: configurationNamed(name) };
  await using farm = await Farm.open(session);
  const ended = await endedChains(farm, { ...of, isFailed, limit });
  const { terminal, clock } = session;
  if (isJson) for (const chain of ended) terminal.json(chainFields(chain));
  else if (ended.length === 0) terminal.line(emptySentence(of.configuration, isFailed));
  else {
    const columns = terminal.isLive ? terminal.size().columns : undefined;
    for (const line of historyTable(ended, clock.now(), columns)) terminal.line(line);
  }
  return exitCodes.done;
}

function emptySentence(configuration: string | undefined, isFailed: boolean): string {
  return `${isFailed ? "nothing has failed" : "nothing has ended yet"}${configuration === undefined ? "" : ` of ${configuration}`}`;
}

function chainFields(chain: Chain) {
  const { id, kind, configuration, renamedFrom, createdAt } = chain;
  return {
    chain: id,
    kind,
    configuration,
    ...(renamedFrom === undefined ? {} : { renamedFrom }),
    createdAt,
    endedAt: endOf(chain),
    exitCode: codeOfChain(chain),
    jobs: jobsOf(chain).map((job) => jobFields(chain, job)),
  };
}

/** Pure. */
export function historyTable(chains: readonly Chain[], now: number, columns?: number): readonly string[] {
  const rows = chains.map((chain) => {
    const jobs = jobsOf(chain);
    return [
      ago(endOf(chain), now),
      chain.id,
      chain.renamedFrom === undefined ? chain.configuration : `${chain.renamedFrom} -> ${chain.configuration}`,
      chain.kind,
      jobs
        .filter((job) => !isMoot(job))
        .map(({ name, state }) => `${name} ${state}`)
        .join(", "),
      duration(endOf(chain) - chain.createdAt),
      [...new Set(jobs.flatMap((job) => agentOf(job) ?? []))].join(" "),
      jobs.map(reasonOf).find((reason) => reason !== "") ?? "",
    ];
  });
  const headers = ["WHEN", "CHAIN", "CONFIGURATION", "KIND", "JOBS", "TOOK", "AGENTS", "REASON"];
  return table(headers, rows, columns);
}

/** Why it did not succeed. The first of a chain's jobs says it; the others follow from it. */
function reasonOf({ outcome }: Job): string {
  if (outcome?.kind === "failed") return describeFailure(outcome.failure);
  return outcome?.kind === "cancelled" ? causeSentence(outcome) : "";
}
