/** The only way the farm changes: an event, what it means, what follows from it, and the work that can now be placed. */
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { isFinished, jobOf, withoutSecrets } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { addressOfTarget, isTerminal, type Job, type UploadJob } from "#protocol/job.ts";
import { atomicRecordsMax } from "#protocol/limits.ts";
import type { AskAnswer } from "#protocol/messages.ts";
import { cancelChain } from "#coordinator/core/cancel.ts";
import { cancelConfirm, manifestOf, settleHeld, startChain } from "#coordinator/core/chains.ts";
import { equalBuild } from "#coordinator/core/equal-builds.ts";
import { type CleanStart, settleCleans, startClean, startReset } from "#coordinator/core/cleaning.ts";
import { deviceKeys, olderOf, supersede } from "#coordinator/core/conflicts.ts";
import type { FarmEffect } from "#coordinator/core/effects.ts";
import type { CancelTarget, FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { expireLeases, openToAll, loseAgent, reconcileAgent } from "#coordinator/core/leases.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { changeRollout, rolloutView, settleRollouts } from "#coordinator/core/rollouts.ts";
import { wake } from "#coordinator/core/timing.ts";
import { place, type PlacementRule, placementRule } from "#coordinator/core/placement.ts";
import { hintNext } from "#coordinator/core/prefetch.ts";
import { settleAttempt, settleLostFlash } from "#coordinator/core/reports.ts";
import { Step } from "#coordinator/core/step.ts";

export interface Transition {
  readonly farm: Farm;
  readonly effects: readonly FarmEffect[];
  /** Records to write (undefined: to remove). All of them belong together when `isAtomic`. */
  readonly changed: ReadonlyMap<ChainId, Chain | undefined>;
  readonly isAtomic: boolean;
}

type EventOf<K extends FarmEvent["kind"]> = Extract<FarmEvent, { kind: K }>;

/** One event at an instant (ms since 1970). */
export function transition(farm: Farm, event: FarmEvent, at: number): Transition {
  return transitionAll(farm, [event], at);
}

/** Events that waited together, in their order; what they free and queue is placed once, at the end. */
export function transitionAll(
  farm: Farm,
  events: readonly FarmEvent[],
  at: number,
  rule: PlacementRule = placementRule,
): Transition {
  const step = new Step(farm, at);
  for (const event of events) apply(step, event);
  settleRollouts(step);
  settleCleans(step);
  place(step, rule);
  hintNext(step);
  const { effects, isAtomic } = step;
  return { farm: step.draft.finish(), effects, changed: step.draft.changedChains(), isAtomic };
}

function apply(step: Step, event: FarmEvent): void {
  switch (event.kind) {
    case "chains-submitted":
      return submit(step, event);
    case "cancel-asked":
      return cancel(step, event);
    case "clean-asked":
      return answerClean(step, event.answerTo, startClean(step, event));
    case "reset-asked":
      return answerClean(step, event.answerTo, startReset(step, event));
    case "unknown-resolved":
      return resolveUnknown(step, event);
    case "rollout-asked":
      return askRollout(step, event);
    case "device-seen":
      return wake(step, event);
    case "job-claimed":
      return claim(step, event);
    case "flash-claimed":
      return claimFlash(step, event);
    case "job-reported":
      return report(step, event);
    case "agent-announced":
      return announce(step, event);
    case "agent-vanished":
      return loseAgent(step, event.agent);
    case "chain-archived":
      return forget(step, event);
    case "time-passed":
      settleHeld(step);
      openToAll(step);
      return expireLeases(step);
  }
}

function answer(step: Step, to: number, body: AskAnswer | AdminAnswer): void {
  step.effects.push({ kind: "answer", to, body });
}

function submit(step: Step, event: EventOf<"chains-submitted">): void {
  try {
    // All are checked before the first is taken, so that a refused request leaves nothing behind.
    for (const request of event.chains) requireNoHold(step, request);
    const started = event.chains.map((request) => startChain(request, step.at, equalBuild(step, request)));
    const fresh = started.filter(({ id }) => step.draft.chain(id) === undefined);
    requireOneBatch(step, fresh);
    const superseded: ChainId[] = [];
    for (const chain of fresh) {
      // The same id twice in one request.
      if (step.draft.chain(chain.id) !== undefined) continue;
      superseded.push(...supersede(step, chain));
      step.draft.setChain(chain);
      if (isFinished(chain) && chain.rollout === undefined) step.effects.push({ kind: "archive", chain: chain.id });
    }
    step.isAtomic ||= started.length + superseded.length > 1;
    answer(step, event.answerTo, { kind: "accepted", chains: started.map((chain) => chain.id), superseded });
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    answer(step, event.answerTo, { kind: "refused", code: error.code, message: error.message });
  }
}

/** @throws UsageError for one of many that nobody named, and whose device a person keeps from that */
function requireNoHold({ draft }: Step, { configuration, isBulk }: ChainRequest): void {
  const note = draft.knowledge.notes.get(configuration);
  if (isBulk !== true || note?.isHeld !== true) return;
  const why = note.reason === undefined ? "" : ` (${note.reason})`;
  throw new UsageError(
    "on-hold",
    `${configuration} is on hold${why} and is flashed by no bulk: name it by itself, or \`flashyard device release ${configuration}\``,
  );
}

/** @throws UsageError when the chains and those that they supersede are too many to be written all or none. */
function requireOneBatch(step: Step, fresh: readonly Chain[]): void {
  const older = fresh.reduce((sum, chain) => sum + olderOf(step, chain).length, 0);
  if (fresh.length + older <= atomicRecordsMax) return;
  throw new UsageError(
    "bulk-too-large",
    `${fresh.length} chains in place of ${older} are more than the ${atomicRecordsMax} records that can be written at once: ask for fewer`,
  );
}

function cancel(step: Step, { of, isForced, answerTo }: EventOf<"cancel-asked">): void {
  const jobs = of.kind === "all" ? undefined : of.jobs;
  const chains = targetsOf(step, of).map((chain) => cancelChain(step, chain, "request", jobs, isForced));
  answer(step, answerTo, { kind: "cancelling", chains });
}

function targetsOf({ draft }: Step, of: CancelTarget): readonly Chain[] {
  switch (of.kind) {
    case "chain":
      return [draft.chain(of.chain) ?? []].flat();
    case "configuration":
      return draft.chainsOf(of.configuration);
    case "all":
      return draft.chains();
  }
}

function askRollout(step: Step, event: EventOf<"rollout-asked">): void {
  const view = rolloutView(changeRollout(step, event));
  const message = `no rollout that is not over is called ${event.id}; see \`flashyard rollout ls\``;
  answer(
    step,
    event.answerTo,
    view === undefined ? { kind: "refused", code: "not-found", message } : { kind: "rollouts", rollouts: [view] },
  );
}

function answerClean(step: Step, to: number, start: CleanStart | undefined): void {
  if (start === undefined) {
    const message = "no build machine is here whose trees could be taken away; `flashyard cancel --all` ends all work";
    return answer(step, to, { kind: "refused", code: "no-agent", message });
  }
  const { chains, superseded, away } = start;
  answer(step, to, { kind: "accepted", chains: [...chains], superseded: [...superseded], away: [...away] });
}

/** The one step out of a terminal state. The record may come from the history; it goes there again. */
function resolveUnknown(step: Step, { chain, isRunning, answerTo }: EventOf<"unknown-resolved">): void {
  const current = step.draft.chain(chain.id) ?? chain;
  if (current.upload?.state !== "unknown" || !isFinished(current)) {
    const message = `the upload of ${chain.configuration} (${chain.id}) is ${current.upload?.state ?? "not there"}, so there is nothing to resolve`;
    return answer(step, answerTo, { kind: "refused", code: "not-unknown", message });
  }
  step.draft.setChain(current);
  const resolved = step.change(
    chain.id,
    "upload",
    isRunning
      ? { state: "succeeded", outcome: { kind: "flashed", level: "told", wrote: true, flashMs: 0 } }
      : {
          state: "failed",
          outcome: {
            kind: "failed",
            failure: {
              kind: "not-running",
              address: addressOfTarget(current.upload.spec.target),
              wanted: manifestOf(current)?.esphome?.buildTimeStr ?? "this build",
              found: "another one, says a person",
            },
          },
        },
  );
  if (chain.rollout === undefined) step.effects.push({ kind: "archive", chain: chain.id });
  answer(step, answerTo, { kind: "device-resolved", chain: withoutSecrets(resolved) });
}

type FromAgent = EventOf<"job-claimed"> | EventOf<"flash-claimed"> | EventOf<"job-reported">;

/** The job that an agent speaks of, if this attempt is still the one in its hands. */
function currentJob(step: Step, event: FromAgent): { chain: Chain; job: Job } | undefined {
  const chain = step.draft.chain(event.chain);
  const job = chain === undefined ? undefined : jobOf(chain, event.job);
  if (chain === undefined || job === undefined || isTerminal(job.state)) return undefined;
  const isCurrent = job.assigned?.agent === event.agent && job.attempt === event.attempt;
  return isCurrent ? { chain, job } : undefined;
}

function drop(step: Step, event: FromAgent, reason: string): void {
  answer(step, event.answerTo, { v: 1, verdict: "drop", reason });
}

function go(step: Step, event: FromAgent): void {
  answer(step, event.answerTo, { v: 1, verdict: "go" });
}

function claim(step: Step, event: EventOf<"job-claimed">): void {
  const current = currentJob(step, event);
  if (current === undefined) return drop(step, event, "the job is not assigned to this agent and attempt");
  const { chain, job } = current;
  if (job.state === "running" && job.assigned?.boot === event.boot) return go(step, event);
  if (job.state !== "dispatched") return drop(step, event, `the job is ${job.state}`);
  step.change(chain.id, job.name, {
    state: "running",
    startedAt: step.at,
    assigned: { agent: event.agent, boot: event.boot },
  });
  return go(step, event);
}

function claimFlash(step: Step, event: EventOf<"flash-claimed">): void {
  const current = currentJob(step, event);
  if (current === undefined) return drop(step, event, "the job is not assigned to this agent and attempt");
  const { chain, job } = current;
  if (job.name !== "upload" || job.mode === "probe") return drop(step, event, "this attempt may only ask the device");
  if (job.state !== "running" || job.assigned?.boot !== event.boot) return drop(step, event, `the job is ${job.state}`);
  if (job.flashClaim !== undefined) {
    // The same attempt asks again because the answer was lost; any other one would flash a second time.
    return job.flashClaim.attempt === event.attempt
      ? go(step, event)
      : drop(step, event, "an earlier attempt has flashed");
  }
  step.change(chain.id, "upload", { flashClaim: { attempt: event.attempt, at: step.at } });
  cancelConfirmsOf(step, chain, job);
  return go(step, event);
}

/** The device is about to run another build than those whose confirmations still wait. */
function cancelConfirmsOf(step: Step, chain: Chain, { spec }: UploadJob): void {
  const devices = new Set(deviceKeys(spec.target));
  for (const { id, upload, confirm } of step.draft.confirming()) {
    if (id === chain.id || upload === undefined || confirm === undefined || isTerminal(confirm.state)) continue;
    if (!deviceKeys(upload.spec.target).some((key) => devices.has(key)) || isInHand(confirm.state)) continue;
    cancelConfirm(step, id, "flashed-again");
  }
}

function report(step: Step, event: EventOf<"job-reported">): void {
  const current = currentJob(step, event);
  if (current !== undefined && current.job.state !== "queued") {
    settleAttempt(step, current.chain, claimedBefore(step, current.chain, current.job), event.result);
  } else settleLostFlash(step, event);
  answer(step, event.answerTo, { v: 1, verdict: "noted" });
}

/** A report that overtakes the recorded claim proves that the attempt ran. */
function claimedBefore(step: Step, chain: Chain, job: Job): Job {
  if (job.state !== "dispatched") return job;
  const record = step.change(chain.id, job.name, { state: "running", startedAt: step.at });
  return jobOf(record, job.name) ?? job;
}

/** Only what is finished may go: a late word of an archiving never takes a live chain away. */
function forget(step: Step, { chain: id, record }: EventOf<"chain-archived">): void {
  const chain = step.draft.chain(id);
  if (chain === undefined || !isFinished(chain)) return;
  // Settled by a person while it was archived as unknown: it is archived once more, and goes then.
  if (record !== undefined && record.upload?.state !== chain.upload?.state) return;
  step.draft.removeChain(id);
}

function announce(step: Step, event: EventOf<"agent-announced">): void {
  step.draft.setAgent({ announcement: event.announcement, seenAt: step.at });
  reconcileAgent(step, event.announcement.agent);
}
