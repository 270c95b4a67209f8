/** What people ask of the farm: where things stand, and why. */
import type { AgentView } from "#protocol/admin.ts";
import { type Chain, configurationsOf, jobsOf } from "#protocol/chain.ts";
import { type ChainId, type JobName, JobName as JobNames } from "#protocol/ids.ts";
import { describeFailure } from "#protocol/failure.ts";
import { isTerminal, type Job } from "#protocol/job.ts";
import { deviceKeys, gateOf, isGated, takenIn } from "#coordinator/core/conflicts.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { isCleaning } from "#coordinator/core/in-hand.ts";
import { flasherOf, loadOf, refusalOf, waitsForWarm } from "#coordinator/core/placement.ts";

/** Jobs that wait for a slot; held ones wait for something else and do not count. */
export function queueDepth(farm: Farm): number {
  let depth = 0;
  for (const chain of farm.chains.values()) depth += jobsOf(chain).filter((job) => job.state === "queued").length;
  return depth;
}

export function agentViews(farm: Farm): readonly AgentView[] {
  const load = loadOf([...farm.chains.values()]);
  return [...farm.agents.values()].map(({ announcement, seenAt, vanishedAt }) => ({
    announcement,
    busy: load.get(announcement.agent)?.busy ?? 0,
    online: vanishedAt === undefined,
    seenAt,
  }));
}

const bothNames = configurationsOf;
const ownName = ({ configuration }: Chain) => [configuration];

/**
 * Finds what the user named among some chains: a chain id, a configuration (its newest chain), or either with `.compile` or
 * `.upload` behind it. Configurations may hold dots, so the whole text is tried first.
 */
export function findChain(
  chains: readonly Chain[],
  reference: string,
  namesOf: (chain: Chain) => readonly string[] = bothNames,
): { readonly chain: Chain; readonly job?: JobName } | undefined {
  const newest = (text: string) =>
    chains
      .filter((chain) => chain.id === text || namesOf(chain).includes(text))
      .reduce<Chain | undefined>((best, chain) => (best === undefined || chain.id > best.id ? chain : best), undefined);
  const whole = newest(reference);
  if (whole !== undefined) return { chain: whole };
  for (const job of JobNames.options) {
    if (!reference.endsWith(`.${job}`)) continue;
    const chain = newest(reference.slice(0, -job.length - 1));
    if (chain !== undefined) return { chain, job };
  }
  return undefined;
}

/** The newest build that has succeeded among the chains that are named by their id or configuration. */
export function newestBuild(chains: readonly Chain[], reference: string): Chain | undefined {
  return findChain(
    chains.filter((chain) => chain.compile?.outcome?.kind === "built"),
    reference,
    ownName,
  )?.chain;
}

/** Why each job of a chain waits, or where it went: one line a fact. */
export function explain(farm: Farm, id: ChainId, at: number): readonly string[] {
  const chain = farm.chains.get(id);
  return chain === undefined ? [] : jobsOf(chain).flatMap((job) => explainJob(farm, chain, job, at));
}

function explainJob(farm: Farm, chain: Chain, job: Job, at: number): readonly string[] {
  const lines = [
    `${job.name}: ${job.state}${job.assigned === undefined ? "" : ` on ${job.assigned.agent}, attempt ${job.attempt}`}`,
  ];
  for (const failure of job.earlier) lines.push(`  earlier: ${describeFailure(failure)}`);
  if (job.state === "held") {
    lines.push(
      job.name === "clean"
        ? "  waits until everything that may still write to its trees is dead"
        : `  waits for the compile of this chain, which is ${chain.compile?.state ?? "missing"}`,
    );
  }
  if (job.outcome?.kind === "failed") lines.push(`  ${describeFailure(job.outcome.failure)}`);
  if (job.outcome?.kind === "cancelled") lines.push(`  cancelled: ${job.outcome.cause}`);
  if (job.state === "queued") lines.push(...whyQueued(farm, chain, job, at));
  if (isTerminal(job.state) || job.lane !== "upload") return lines;
  if (job.flashClaim !== undefined)
    lines.push("  past the point of no return: the flash ends before anything else happens");
  return lines;
}

function whyQueued(farm: Farm, chain: Chain, job: Job, at: number): readonly string[] {
  const lines: string[] = [];
  const chains = [...farm.chains.values()];
  const taken = takenIn(chains);
  const wait = (job.notBeforeAt ?? at) - at;
  if (job.lane === "upload" && job.mode === "probe")
    lines.push("  an earlier attempt may have flashed: the device will be asked");
  const flasher = flasherOf([...farm.agents.values()], chain, job);
  if (flasher !== undefined) lines.push(`  ${flasher} was taken for lost, is back and still at it`);
  if (wait > 0) lines.push(`  not before ${Math.ceil(wait / 1000)} s from now`);
  const gate = gateOf(chains.filter(isCleaning));
  if (isGated(gate, chain, job)) {
    lines.push(
      gate.isResetting
        ? "  a reset takes all build trees away: nothing is built or flashed until it is over"
        : "  its build tree is being taken away (clean): it is neither built nor flashed until that is over",
    );
  }
  if (job.lane === "compile" && configurationsOf(chain).some((name) => taken.trees.has(name))) {
    lines.push("  an older build of this configuration is still ending");
  }
  const busyKey = job.lane === "upload" && deviceKeys(job.spec.target).find((key) => taken.devices.has(key));
  if (typeof busyKey === "string") lines.push(`  another upload to ${busyKey} has not ended`);
  const warm = wait > 0 ? undefined : waitsForWarm([...farm.agents.values()], chain, job, at);
  if (warm !== undefined) lines.push(`  waits for ${warm}, where its build tree is warm`);
  if (farm.agents.size === 0) lines.push("  no agent has announced itself: start one with `flashyard up`");
  const load = loadOf(chains);
  for (const agent of farm.agents.values()) {
    const { announcement } = agent;
    if (announcement.lane !== job.lane) continue;
    const busy = load.get(announcement.agent)?.busy ?? 0;
    const reason =
      refusalOf(job, agent) ??
      (busy >= announcement.slots ? `is busy (${busy} of ${announcement.slots} slots)` : "can take it");
    lines.push(`  ${announcement.agent} ${reason}`);
  }
  return lines;
}
