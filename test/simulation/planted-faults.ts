/** Mistakes that a core could make, each planted into the real one from outside, to prove that the simulation sees them. */
import { type Chain, jobOf } from "#protocol/chain.ts";
import { type ChainId, Configuration } from "#protocol/ids.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
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
export const ignoresTheDeviceGate: Decide = (farm, events, at) =>
  masked(farm, events, at, (chain) => withHost(chain, (host) => `${host}@${chain.id}`), {
    unmask: (chain) => withHost(chain, (host) => host.split("@")[0] ?? host),
  });

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
  const before = upload.spec.target;
  const target = before.kind === "ota" ? { ...before, host: change(before.host) } : before;
  return { ...chain, upload: { ...upload, spec: { ...upload.spec, target } } };
}

function mapChains(chains: ReadonlyMap<ChainId, Chain>, change: (chain: Chain) => Chain): ReadonlyMap<ChainId, Chain> {
  return new Map([...chains].map(([id, chain]) => [id, change(chain)]));
}

/** A device is known by the configuration that is flashed to it: two of them with one address know nothing of each other. */
export const locksDevicesByName: Decide = (farm, events, at) =>
  masked(farm, events, at, (chain) => withHost(chain, (host) => `${host}@${chain.configuration}`), {
    unmask: (chain) => withHost(chain, (host) => host.split("@")[0] ?? host),
  });

/** Trees are taken away, and nobody is kept from them meanwhile. */
export const ignoresTheBuildGate: Decide = (farm, events, at) => {
  const elsewhere = Configuration.parse("elsewhere");
  return masked(
    farm,
    events,
    at,
    (chain) => (chain.clean === undefined ? chain : { ...chain, kind: "clean", configuration: elsewhere }),
    {
      unmask: (chain) => {
        const before = farm.chains.get(chain.id);
        return chain.clean === undefined || before === undefined
          ? chain
          : { ...chain, kind: before.kind, configuration: before.configuration };
      },
    },
  );
};

/** A rename locks the name that its device will have, and not the one that it has. */
export const locksTheNewNameOnly: Decide = (farm, events, at) => {
  const formerNames = new Map<ChainId, Chain["renamedFrom"]>();
  const remember = ({ id, renamedFrom }: Pick<Chain, "id" | "renamedFrom">) => {
    if (renamedFrom !== undefined) formerNames.set(id, renamedFrom);
  };
  for (const chain of farm.chains.values()) remember(chain);
  const asked = events.map((event): FarmEvent => {
    if (event.kind !== "chains-submitted") return event;
    return {
      ...event,
      chains: event.chains.map((request) => {
        if (request.renamedFrom === undefined) return request;
        remember(request);
        const { renamedFrom: _renamedFrom, ...rest } = request;
        return { ...rest, kind: "install" };
      }),
    };
  });
  const mask = (chain: Chain): Chain => {
    const { renamedFrom: _renamedFrom, ...rest } = chain;
    return chain.renamedFrom === undefined ? chain : { ...rest, kind: "install" };
  };
  return masked(farm, asked, at, mask, {
    unmask: (chain) => {
      const renamedFrom = formerNames.get(chain.id);
      return renamedFrom === undefined ? chain : { ...chain, kind: "rename", renamedFrom };
    },
  });
};

/** What was archived takes its live record away, also when a person has settled it meanwhile. */
export const forgetsWhatWasSettled: Decide = (farm, events, at) => {
  const archived = events.map((event): FarmEvent =>
    event.kind === "chain-archived" ? { kind: event.kind, chain: event.chain } : event,
  );
  return transitionAll(farm, archived, at);
};

/** A person says that an image runs, and that it does not is written down; and the other way round. */
export const mishearsThePerson: Decide = (farm, events, at) => {
  const misheard = events.map((event): FarmEvent =>
    event.kind === "unknown-resolved" ? { ...event, isRunning: !event.isRunning } : event,
  );
  return transitionAll(farm, misheard, at);
};

/** A rollout is flashed in one go. */
export const flashesAllWavesAtOnce: Decide = (farm, events, at) => {
  const parts = new Map([...farm.chains].map(([id, { rollout }]) => [id, rollout]));
  const oneWave = (chain: Chain): Chain =>
    chain.rollout === undefined ? chain : { ...chain, rollout: { ...chain.rollout, wave: 1 } };
  const asItWas = (chain: Chain): Chain => {
    const wave = parts.get(chain.id)?.wave;
    return chain.rollout === undefined || wave === undefined
      ? chain
      : { ...chain, rollout: { ...chain.rollout, wave } };
  };
  return masked(farm, events, at, oneWave, { unmask: asItWas });
};

/** A step over a farm that looks different to the core. */
function masked(
  farm: Farm,
  events: readonly FarmEvent[],
  at: number,
  mask: (chain: Chain) => Chain,
  { unmask }: { readonly unmask: (chain: Chain) => Chain },
): Transition {
  const step = transitionAll({ ...farm, chains: mapChains(farm.chains, mask) }, events, at);
  return {
    ...step,
    farm: { ...step.farm, chains: mapChains(step.farm.chains, unmask) },
    changed: new Map([...step.changed].map(([id, chain]) => [id, chain === undefined ? undefined : unmask(chain)])),
  };
}

/** The step as the farm knows it, with other records. */
export function changingRecords(step: Transition, change: (chain: Chain) => Chain): Transition {
  return { ...step, changed: changing(step, change).changed };
}

/** The step with some of its changed records changed once more. */
export function changing(step: Transition, change: (chain: Chain) => Chain): Transition {
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
