/** The live view of followed chains: a line for each configuration, below it its jobs. Pure. */
import { type Chain, isFinished, jobsOf } from "#protocol/chain.ts";
import { isTerminal, type Job, type JobName } from "#protocol/job.ts";
import type { Progress } from "#protocol/messages.ts";
import { fit } from "#cli/clean-text.ts";
import { type Colour, colourOf, isMoot, jobSentence, nameOf, progressSentence } from "#cli/job-sentence.ts";
import { count, duration } from "#cli/render.ts";

export interface Followed {
  readonly chain: Chain;
  readonly progress: Readonly<Partial<Record<JobName, Progress>>>;
}

export interface TreeLine {
  readonly text: string;
  readonly colour?: Colour;
}

export interface TreePlace {
  readonly columns: number;
  /** Lines that there are; absent: as many as it takes. */
  readonly rows?: number;
  readonly now: number;
}

/**
 * Every line fits its width. Where there are more lines than rows, chains that are finished or have not started give way,
 * and a last line counts them.
 */
export function treeLines(all: readonly Followed[], place: TreePlace): readonly TreeLine[] {
  const { rows = Number.POSITIVE_INFINITY } = place;
  const blocks = all.map((followed) => ({ followed, lines: blockOf(followed, place) }));
  const total = blocks.reduce((sum, { lines }) => sum + lines.length, 0);
  if (total <= rows) return blocks.flatMap(({ lines }) => lines);
  const shownLines: TreeLine[] = [];
  const active = blocks.filter(({ followed }) => jobsOf(followed.chain).some((job) => isActive(job)));
  let shownChains = 0;
  for (const { lines } of active) {
    if (shownLines.length + lines.length > rows - 1) break;
    shownLines.push(...lines);
    shownChains += 1;
  }
  const ended = all.filter(({ chain }) => isFinished(chain)).length;
  const rest = `… and ${count(all.length - shownChains, "more configuration")}; ${ended} of ${all.length} ended`;
  return [...shownLines, { text: fit(rest, place.columns), colour: "dim" }];
}

function isActive(job: Job): boolean {
  return job.state === "dispatched" || job.state === "running" || job.state === "cancelling";
}

function blockOf({ chain, progress }: Followed, { columns, now }: TreePlace): readonly TreeLine[] {
  const jobs = jobsOf(chain).filter((job) => !isMoot(job));
  const lines: TreeLine[] = [{ text: fit(nameOf(chain.configuration), columns) }];
  for (const [index, job] of jobs.entries()) {
    const branch = index === jobs.length - 1 ? "└─" : "├─";
    const text = `${branch} ${job.name.padEnd(7)} ${liveSentence(job, progress[job.name], now)}`;
    lines.push({ text: fit(text, columns), colour: colourOf[job.state] });
  }
  return lines;
}

/** The sentence of the state, and of what is under way also how far and for how long. */
function liveSentence(job: Job, progress: Progress | undefined, now: number): string {
  const since = job.state === "queued" ? job.queuedAt : isActive(job) ? (job.startedAt ?? job.dispatchedAt) : undefined;
  const parts = [
    jobSentence(job),
    ...(progress === undefined || isTerminal(job.state) ? [] : [progressSentence(progress)]),
    ...(since === undefined ? [] : [duration(now - since)]),
  ];
  return parts.join(", ");
}
