/** How followed chains are shown: a live tree on a terminal, a line for each change elsewhere, or JSON. */
import type { Clock } from "#actor/clock.ts";
import type { Chain } from "#protocol/chain.ts";
import { jobsOf } from "#protocol/chain.ts";
import { describeFailure } from "#protocol/failure.ts";
import type { Job } from "#protocol/job.ts";
import type { Progress } from "#protocol/messages.ts";
import { padded } from "#cli/clean-text.ts";
import type { FollowEvents } from "#cli/follow.ts";
import { agentOf, colourOf, failureLines, isMoot, jobSentence, nameOf, progressSentence } from "#cli/job-sentence.ts";
import { LiveScreen } from "#cli/live-screen.ts";
import type { Terminal } from "#cli/terminal.ts";
import { type Followed, treeLines } from "#cli/tree.ts";

export interface Reporter extends FollowEvents {
  /** Shows what there is from now on, in the state that `followed` gives. */
  begin(followed: () => readonly Followed[]): void;
  /** Everything has ended, or nobody looks any more. */
  end(): void;
}

const awaySentence = (isAway: boolean) =>
  isAway ? "the farm does not answer; waiting for it (accepted jobs are not lost)" : "the farm answers again";

export function reporterFor(
  terminal: Terminal,
  clock: Clock,
  options: { readonly isJson: boolean; readonly nameWidth: number },
): Reporter {
  if (options.isJson) return jsonReporter(terminal, clock);
  return terminal.isLive ? treeReporter(terminal, clock) : lineReporter(terminal, options.nameWidth);
}

/** @param nameWidth width of the column of configurations */
function lineReporter(terminal: Terminal, nameWidth: number): Reporter {
  const phases = new Map<string, string>();
  const print = (chain: Chain, job: Job, sentence: string) =>
    terminal.line(`${padded(nameOf(chain.configuration), nameWidth)}  ${job.name.padEnd(7)}  ${sentence}`);
  return {
    begin: () => undefined,
    end: () => undefined,
    changed(chain, job) {
      phases.delete(`${chain.id}.${job.name}`);
      // What is held for its build is no news yet, and what is dispatched runs a moment later.
      if ((job.state === "held" && job.name !== "clean") || job.state === "dispatched" || isMoot(job)) return;
      print(chain, job, jobSentence(job));
      for (const line of failureLines(chain.id, job)) terminal.line(line);
    },
    progressed(chain, job, progress) {
      const key = `${chain.id}.${job.name}`;
      if (phases.get(key) === progress.phase) return;
      phases.set(key, progress.phase);
      print(chain, job, progressSentence({ v: 1, phase: progress.phase }));
    },
    away: (isAway) => terminal.note(awaySentence(isAway)),
  };
}

/** Four times a second: progress looks alive, and a remote terminal on a slow line can follow. */
const redrawMs = 250;

function treeReporter(terminal: Terminal, clock: Clock): Reporter {
  const screen = new LiveScreen(terminal);
  let followed: () => readonly Followed[] = () => [];
  let isAway = false;
  let timer: NodeJS.Timeout | undefined;
  const draw = () => {
    const { columns, rows } = terminal.size();
    // The last line stays free for the cursor, and one for the word that the farm is away.
    const lines = treeLines(followed(), { columns: columns - 1, rows: rows - 2, now: clock.now() });
    const away = { text: awaySentence(true).slice(0, columns - 1), colour: "yellow" as const };
    screen.draw(isAway ? [...lines, away] : lines);
  };
  return {
    begin(of) {
      followed = of;
      timer = setInterval(draw, redrawMs);
      draw();
    },
    away: (now) => (isAway = now),
    end() {
      clearInterval(timer);
      const last = followed();
      // What stays need not be drawn again, so its sentences may be long.
      screen.close(treeLines(last, { columns: Number.POSITIVE_INFINITY, now: clock.now() }));
      for (const { chain } of last) {
        for (const job of jobsOf(chain)) {
          const lines = failureLines(chain.id, job);
          if (lines.length === 0) continue;
          terminal.line(terminal.paint(colourOf[job.state], `${nameOf(chain.configuration)}  ${job.name}`));
          for (const line of lines) terminal.line(line);
        }
      }
    },
  };
}

/** The fields of a job that every JSON line about it has. */
export function jobFields(chain: Chain, job: Job) {
  const { name, state, attempt, queuedAt, startedAt, endedAt, outcome } = job;
  const agent = agentOf(job);
  return {
    chain: chain.id,
    configuration: chain.configuration,
    job: name,
    state,
    attempt,
    ...(agent === undefined ? {} : { agent }),
    ...(queuedAt === undefined ? {} : { queuedAt }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(outcome === undefined ? {} : { outcome }),
    ...(outcome?.kind === "failed" ? { reason: describeFailure(outcome.failure) } : {}),
  };
}

function jsonReporter(terminal: Terminal, clock: Clock): Reporter {
  const progressOf = ({ phase, percent }: Progress) => ({ phase, ...(percent === undefined ? {} : { percent }) });
  return {
    begin: () => undefined,
    end: () => undefined,
    changed: (chain, job) => terminal.json({ kind: "job", at: clock.now(), ...jobFields(chain, job) }),
    progressed: (chain, job, progress) =>
      terminal.json({
        kind: "progress",
        at: clock.now(),
        chain: chain.id,
        configuration: chain.configuration,
        job: job.name,
        ...progressOf(progress),
      }),
    away: (isAway) => terminal.json({ kind: isAway ? "farm-away" : "farm-back", at: clock.now() }),
  };
}
