/**
 * The farm's promises as an executable list; run after each step of every test of the core.
 *
 * 1. A dependent leaves `held` for `queued` only when its prerequisite has succeeded.
 * 2. A job in hand is assigned; a queued or held one is not, and has no outcome.
 * 3. A terminal job has an outcome and an end; a cancelled, failed or unknown prerequisite has no live dependent.
 * 4. At most one job in hand writes to a device, and at most one builds or cleans in a tree; a rename takes both its names.
 * 5. A flash claim belongs to an upload that has a manifest to flash; a probe has a flash claim.
 * 6. No agent that is present and takes work (one that is being shut down has no slots) has more jobs in hand than slots; one that
 *    has given its slot back does not count.
 * 7. At most one chain that builds or flashes a configuration is live, unless the older ones are past the point of no return
 *    or dying.
 * 8. While trees are taken away, nothing is in hand that may write to them; in a reset, nothing at all but probes.
 * 9. At most one flash is in hand on a scarce segment.
 * 10. Only a device that has been flashed is asked to confirm that.
 * 11. No flash is in hand of a rollout's wave while an earlier wave has not ended.
 */
import { type Chain, configurationsOf, isFinished, jobsOf } from "#protocol/chain.ts";
import { type Job, isTerminal } from "#protocol/job.ts";
import { type ChainId, jobRef } from "#protocol/ids.ts";
import { isPastNoReturn } from "#coordinator/core/cancel.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import { deviceKeys, scarceSegment } from "#coordinator/core/conflicts.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { isInHand } from "#coordinator/core/in-hand.ts";
import { loadOf } from "#coordinator/core/slots.ts";

/** @returns one sentence for every broken invariant, each with its number; none when the farm is sound. */
export function checkFarm(farm: Farm): readonly string[] {
  const broken: string[] = [];
  for (const chain of farm.chains.values()) {
    checkDependency(chain, broken);
    for (const job of jobsOf(chain)) checkJob(chain, job, broken);
  }
  checkExclusion(farm, broken);
  checkSlots(farm, broken);
  checkCleans(farm, broken);
  checkRollouts(farm, broken);
  return broken;
}

function checkDependency(chain: Chain, broken: string[]): void {
  const { compile, upload, id } = chain;
  if (compile === undefined || upload === undefined) return;
  const isReleased = upload.state !== "held" && upload.state !== "cancelled";
  if (isReleased && compile.state !== "succeeded") {
    broken.push(`1: ${jobRef(id, "upload")} is ${upload.state} while its compile is ${compile.state}`);
  }
  if (isTerminal(compile.state) && compile.state !== "succeeded" && !isTerminal(upload.state)) {
    broken.push(`3: ${jobRef(id, "upload")} is ${upload.state} though its compile is ${compile.state}`);
  }
}

function checkJob(chain: Chain, job: Job, broken: string[]): void {
  const ref = jobRef(chain.id, job.name);
  if (isInHand(job.state) && job.assigned === undefined)
    broken.push(`2: ${ref} is ${job.state} and assigned to nobody`);
  if ((job.state === "queued" || job.state === "held") && (job.assigned !== undefined || job.outcome !== undefined)) {
    broken.push(`2: ${ref} is ${job.state} with an assignment or an outcome`);
  }
  if (isTerminal(job.state) && (job.outcome === undefined || job.endedAt === undefined)) {
    broken.push(`3: ${ref} is ${job.state} without outcome or end`);
  }
  if (job.name === "upload") {
    if (job.flashClaim !== undefined && manifestOf(chain) === undefined)
      broken.push(`5: ${ref} may flash but has no artifact`);
    if (job.mode === "probe" && job.flashClaim === undefined) broken.push(`5: ${ref} probes though nobody has flashed`);
  }
}

function checkExclusion(farm: Farm, broken: string[]): void {
  const devices = new Set<string>();
  const segments = new Set<string>();
  const trees = new Set<string>();
  const configurations = new Set<string>();
  for (const chain of farm.chains.values()) {
    const { compile, upload, id } = chain;
    for (const device of upload !== undefined && isInHand(upload.state) ? deviceKeys(upload.spec.target) : []) {
      if (devices.has(device)) broken.push(`4: two uploads to ${device} are in hand, one of them ${id}`);
      devices.add(device);
    }
    const segment = upload !== undefined && isInHand(upload.state) ? scarceSegment(upload.spec.target) : undefined;
    if (upload !== undefined && isInHand(chain.confirm?.state) && chain.upload?.state !== "succeeded")
      broken.push(`10: ${id} is confirmed while its upload is ${upload.state}`);
    if (segment !== undefined && segments.has(segment)) broken.push(`9: two uploads by ${segment}, one of them ${id}`);
    if (segment !== undefined) segments.add(segment);
    const jobs = [compile, upload].filter((job) => job !== undefined);
    const isLive = jobs.some((job) => !isTerminal(job.state) && job.state !== "cancelling" && !isPastNoReturn(job));
    for (const name of configurationsOf(chain)) {
      if (isInHand(compile?.state)) {
        if (trees.has(name)) broken.push(`4: two builds of ${name} are in hand, one of them ${id}`);
        trees.add(name);
      }
      if (isLive && configurations.has(name)) broken.push(`7: two live chains of ${name}, one of them ${id}`);
      if (isLive) configurations.add(name);
    }
  }
}

function checkRollouts(farm: Farm, broken: string[]): void {
  const openWaves = new Map<ChainId, number>();
  for (const chain of farm.chains.values()) {
    if (chain.rollout === undefined || isFinished(chain)) continue;
    const { id, wave } = chain.rollout;
    openWaves.set(id, Math.min(wave, openWaves.get(id) ?? wave));
  }
  for (const { id, rollout, upload } of farm.chains.values()) {
    if (rollout === undefined || upload === undefined || !isInHand(upload.state)) continue;
    const open = openWaves.get(rollout.id) ?? rollout.wave;
    if (rollout.wave > open)
      broken.push(`11: ${id} of wave ${rollout.wave} is flashed while wave ${open} has not ended`);
  }
}

function checkCleans(farm: Farm, broken: string[]): void {
  for (const { id, kind, configuration, clean } of farm.chains.values()) {
    if (clean === undefined || clean.state === "held" || isTerminal(clean.state)) continue;
    for (const other of farm.chains.values()) {
      for (const job of jobsOf(other)) {
        if (!isInHand(job.state) || other.id === id) continue;
        const isOnAgent = job.assigned?.agent === clean.spec.on;
        const isForbidden =
          kind === "reset"
            ? job.name === "compile" ||
              (job.name === "upload" && job.mode === "flash") ||
              (isOnAgent && isInHand(clean.state))
            : job.name === "compile" && isOnAgent && configurationsOf(other).includes(configuration);
        // Two cleans of one agent that are both in hand are of two configurations.
        const isOtherTree = job.name === "clean" && kind !== "reset" && other.kind !== "reset";
        if (isForbidden && !isOtherTree) broken.push(`8: ${jobRef(other.id, job.name)} is in hand while ${id} cleans`);
      }
    }
  }
}

function checkSlots(farm: Farm, broken: string[]): void {
  const load = loadOf(farm.chains.values(), (agent) => farm.agents.get(agent));
  for (const { announcement, vanishedAt } of farm.agents.values()) {
    if (vanishedAt !== undefined || announcement.slots === 0) continue;
    const count = load.get(announcement.agent)?.busy ?? 0;
    if (count > announcement.slots)
      broken.push(`6: ${announcement.agent} has ${count} jobs for ${announcement.slots} slots`);
  }
}
