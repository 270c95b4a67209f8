/** Which jobs exclude each other: two requests for one configuration, two flashes of one device, two builds in one tree. */
import type { Chain } from "#protocol/chain.ts";
import type { ChainId, Configuration } from "#protocol/ids.ts";
import type { JobState, OtaTarget } from "#protocol/job.ts";
import { cancelChain } from "#coordinator/core/cancel.ts";
import type { Step } from "#coordinator/core/step.ts";

const inHand: ReadonlySet<JobState> = new Set(["dispatched", "running", "cancelling"]);

/** True while an agent may be working on a job in this state. */
export function isInHand(state: JobState | undefined): boolean {
  return state !== undefined && inHand.has(state);
}

/** A device is known by where it is reached; two configurations with one address are one device. */
export function deviceKey(target: OtaTarget): string {
  return `${target.host.toLowerCase()}:${target.port}`;
}

/** Devices and trees that are taken at this moment. */
export interface Taken {
  readonly devices: ReadonlySet<string>;
  readonly trees: ReadonlySet<Configuration>;
}

/**
 * A device is taken while an upload to it is in hand, and also while a lost flash waits to be probed: until the device has
 * been asked, no other image may go there.
 */
export function takenIn(chains: readonly Chain[]): Taken {
  const devices = new Set<string>();
  const trees = new Set<Configuration>();
  for (const { configuration, compile, upload } of chains) {
    if (isInHand(compile?.state)) trees.add(configuration);
    if (upload !== undefined && (isInHand(upload.state) || (upload.state === "queued" && upload.mode === "probe"))) {
      devices.add(deviceKey(upload.spec.target));
    }
  }
  return { devices, trees };
}

/** A new request for a configuration cancels the older live chains of it; a flash past its claim finishes first. */
export function supersede(step: Step, configuration: Configuration, by: ChainId): readonly ChainId[] {
  const gone: ChainId[] = [];
  for (const chain of step.draft.chains()) {
    if (chain.configuration !== configuration || chain.id === by) continue;
    if (cancelChain(step, chain, "superseded").jobs.length > 0) gone.push(chain.id);
  }
  return gone;
}
