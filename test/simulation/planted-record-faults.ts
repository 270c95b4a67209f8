/** Mistakes in what a step writes down: the core decides well, and the record does not say so. */
import type { Chain } from "#protocol/chain.ts";
import { isTerminal, type Job } from "#protocol/job.ts";
import { changing, changingRecords } from "#test/simulation/planted-faults.ts";
import { transitionAll } from "#coordinator/core/transition.ts";
import type { Decide } from "#test/simulation/simulated-world.ts";

/** The success of a build is committed, and the release of its upload in the next write, if there is one. */
export const releasesOutsideTheCommit: Decide = (farm, events, at) =>
  changingRecords(transitionAll(farm, events, at), (chain) => {
    const before = farm.chains.get(chain.id)?.upload;
    return before?.state === "held" && chain.compile?.state === "succeeded" ? { ...chain, upload: before } : chain;
  });

/** A build that has failed or was cancelled takes its upload with it in memory only. */
export const forgetsToWriteTheCascade: Decide = (farm, events, at) =>
  changingRecords(transitionAll(farm, events, at), (chain) => {
    const before = farm.chains.get(chain.id)?.upload;
    const hasEnded = chain.compile !== undefined && isTerminal(chain.compile.state);
    return before?.state === "held" && hasEnded && chain.upload?.state === "cancelled"
      ? { ...chain, upload: before }
      : chain;
  });

/** Whatever broke a flash off is tried again, also what broke it off after the last byte. */
export const retriesAfterTheLastByte: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const { upload } = chain;
    if (upload?.state !== "unknown" || farm.chains.get(chain.id)?.upload?.state !== "running") return chain;
    const { outcome: _outcome, endedAt: _endedAt, assigned: _assigned, flashClaim: _flashClaim, ...rest } = upload;
    return { ...chain, upload: { ...rest, state: "queued", mode: "flash", queuedAt: at } };
  });

/** Who does not know how a flash ended takes it for a success. */
export const takesUnknownForSuccess: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const { upload } = chain;
    if (upload?.state !== "unknown") return chain;
    const outcome = { kind: "flashed" as const, level: "running" as const, wrote: true, flashMs: 1 };
    return { ...chain, upload: { ...upload, state: "succeeded", outcome } };
  });

/** A newer request is answered, and the older one goes on. */
export const leavesSupersededAlive: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const before = farm.chains.get(chain.id);
    const isSuperseded = ({ outcome }: Job) => outcome?.kind === "cancelled" && outcome.cause === "superseded";
    return before !== undefined && [chain.compile, chain.upload].some((job) => job !== undefined && isSuperseded(job))
      ? before
      : chain;
  });

/** A build that was lost with its agent stays where it was. */
export const neverRepeatsLostBuilds: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const before = farm.chains.get(chain.id)?.compile;
    const { compile } = chain;
    const isLost = compile?.earlier.at(-1)?.kind === "agent-lost" && compile.state !== before?.state;
    return isLost && before !== undefined && !isTerminal(before.state) && before.assigned !== undefined
      ? { ...chain, compile: before }
      : chain;
  });

/** A reset or clean begins while what it waits for may still be alive. */
export const cleansWithoutProof: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain): Chain => {
    const { clean } = chain;
    return clean?.state === "held" ? { ...chain, clean: { ...clean, state: "queued", queuedAt: at } } : chain;
  });

/** A build that runs is told to end, and counts as dead at once. */
export const cancelsWithoutProof: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain): Chain => {
    const { compile } = chain;
    return compile?.state === "cancelling"
      ? { ...chain, compile: { ...compile, state: "cancelled", endedAt: at } }
      : chain;
  });
