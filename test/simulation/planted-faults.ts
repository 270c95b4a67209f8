/** Mistakes that a core could make, each planted into the real one from outside, to prove that the simulation sees them. */
import { type Chain, jobOf } from "#protocol/chain.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import { type Transition, transitionAll } from "#coordinator/core/transition.ts";
import type { Decide } from "#test/simulation/simulated-world.ts";

/** Every flash claim is answered with `go`, whatever the record says. */
export const grantsEveryFlashClaim: Decide = (farm, events, at) => {
  const step = transitionAll(farm, events, at);
  const asked = new Set(
    events.filter(({ kind }) => kind === "flash-claimed").map((event) => (event as { answerTo: number }).answerTo),
  );
  const effects = step.effects.map((effect) =>
    effect.kind === "answer" && asked.has(effect.to)
      ? { ...effect, body: { v: 1 as const, verdict: "go" as const } }
      : effect,
  );
  return { ...step, effects };
};

/** Two uploads to one device exclude each other no more: to the core every chain has a device of its own. */
export const ignoresTheDeviceGate: Decide = (farm, events, at) => {
  const mark = (chain: Chain): Chain => withHost(chain, (host) => `${host}@${chain.id}`);
  const unmark = (chain: Chain): Chain => withHost(chain, (host) => host.split("@")[0] ?? host);
  const marked = transitionAll({ ...farm, chains: mapChains(farm.chains, mark) }, events, at);
  return {
    ...marked,
    farm: { ...marked.farm, chains: mapChains(marked.farm.chains, unmark) },
    changed: new Map([...marked.changed].map(([id, chain]) => [id, chain === undefined ? undefined : unmark(chain)])),
  };
};

/** The end of a build releases its upload, however it ended, with what an earlier build may have left behind. */
export const releasesWithoutSuccess: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const before = farm.chains.get(chain.id)?.upload;
    const { compile, upload } = chain;
    if (before?.state !== "held" || upload?.state !== "cancelled" || compile?.state !== "failed") return chain;
    const manifest = {
      v: 1 as const,
      tool: { name: "esphome", version: "2026.10.0" },
      platform: "esp32",
      images: [{ role: "ota" as const, name: "left-behind.bin", digest: compile.spec.bundle, bytes: 1_000 }],
      esphome: {
        name: "left",
        configHash: "1",
        buildTime: 1,
        buildTimeStr: "left behind",
        esphomeVersion: "2026.10.0",
      },
    };
    const { outcome: _outcome, endedAt: _endedAt, ...rest } = upload;
    return { ...chain, upload: { ...rest, state: "queued", queuedAt: at, spec: { ...upload.spec, manifest } } };
  });

/** A report is taken for that of the attempt in hand, whichever attempt it is of. */
export const acceptsStaleAttempts: Decide = (farm, events, at) => {
  const renumbered = events.map((event): FarmEvent => {
    if (event.kind !== "job-reported") return event;
    const chain = farm.chains.get(event.chain);
    const job = chain === undefined ? undefined : jobOf(chain, event.job);
    return job?.assigned === undefined ? event : { ...event, ...job.assigned, attempt: job.attempt };
  });
  return transitionAll(farm, renumbered, at);
};

/** A lost flash is tried again like a lost build. */
export const retriesAfterFlashClaim: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const { upload } = chain;
    if (upload?.state !== "queued" || upload.mode !== "probe") return chain;
    const { flashClaim: _flashClaim, notBeforeAt: _notBeforeAt, ...rest } = upload;
    return { ...chain, upload: { ...rest, mode: "flash" } };
  });

/** A cancel is answered, but a dispatched upload keeps its place. */
export const forgetsToCancelDispatched: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const before = farm.chains.get(chain.id)?.upload;
    const isForgotten = before?.state === "dispatched" && chain.upload?.state === "cancelled";
    return isForgotten ? { ...chain, upload: before } : chain;
  });

/** A running upload is cancelled, and its flash claim granted all the same. */
export const letsCancelledUploadsFlash: Decide = (farm, events, at) => {
  const { chains } = farm;
  const revived = mapChains(chains, (chain) => reviveFor(chain, events));
  const step = transitionAll({ ...farm, chains: revived }, events, at);
  return changing(step, (chain) => {
    const before = chains.get(chain.id)?.upload;
    return before?.state === "cancelling" && chain.upload?.state === "running" ? { ...chain, upload: before } : chain;
  });
};

/** A lost flash is asked about at once, while its agent may still be at it. */
export const probesWithoutWaiting: Decide = (farm, events, at) =>
  changing(transitionAll(farm, events, at), (chain) => {
    const { upload } = chain;
    if (upload?.state !== "queued" || upload.mode !== "probe") return chain;
    return { ...chain, upload: { ...upload, notBeforeAt: at } };
  });

/** An agent that was taken for lost, and is back in the middle of its flash, is not minded. */
export const ignoresReturnedFlashers: Decide = (farm, events, at) => {
  const deaf = events.map((event): FarmEvent =>
    event.kind === "agent-announced" ? { ...event, announcement: { ...event.announcement, holding: [] } } : event,
  );
  return transitionAll(farm, deaf, at);
};

function reviveFor(chain: Chain, events: readonly FarmEvent[]): Chain {
  const isAsked = events.some((event) => event.kind === "flash-claimed" && event.chain === chain.id);
  const { upload } = chain;
  if (!isAsked || upload?.state !== "cancelling") return chain;
  const { outcome: _outcome, ...rest } = upload;
  return { ...chain, upload: { ...rest, state: "running" } };
}

function withHost(chain: Chain, change: (host: string) => string): Chain {
  const { upload } = chain;
  if (upload === undefined) return chain;
  const target = { ...upload.spec.target, host: change(upload.spec.target.host) };
  return { ...chain, upload: { ...upload, spec: { ...upload.spec, target } } };
}

function mapChains(chains: ReadonlyMap<ChainId, Chain>, change: (chain: Chain) => Chain): ReadonlyMap<ChainId, Chain> {
  return new Map([...chains].map(([id, chain]) => [id, change(chain)]));
}

/** The step with some of its changed records changed once more. */
function changing(step: Transition, change: (chain: Chain) => Chain): Transition {
  const chains = new Map(step.farm.chains);
  const changed = new Map(step.changed);
  for (const [id, chain] of step.changed) {
    if (chain === undefined) continue;
    const other = change(chain);
    changed.set(id, other);
    chains.set(id, other);
  }
  return { ...step, farm: { ...step.farm, chains }, changed };
}
