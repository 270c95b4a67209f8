/** Which jobs exclude each other: two requests for one configuration, two flashes of one device, two builds in one tree. */
import type { Chain } from "#protocol/chain.ts";
import type { ChainId, Configuration } from "#protocol/ids.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { cancelChain } from "#coordinator/core/cancel.ts";
import { isInHand, takesDevice } from "#coordinator/core/in-hand.ts";
import type { Step } from "#coordinator/core/step.ts";

/** A device is known by where it is reached; two configurations with one address are one device. */
export function deviceKey(target: OtaTarget): string {
  return `${target.host.toLowerCase()}:${target.port}`;
}

/** Devices and trees that are taken at this moment. */
export interface Taken {
  readonly devices: ReadonlySet<string>;
  readonly trees: ReadonlySet<Configuration>;
}

/** What these chains take; a chain that takes nothing may be left out. */
export function takenIn(chains: Iterable<Chain>): Taken {
  const devices = new Set<string>();
  const trees = new Set<Configuration>();
  for (const { configuration, compile, upload } of chains) {
    if (isInHand(compile?.state)) trees.add(configuration);
    if (upload !== undefined && takesDevice(upload)) devices.add(deviceKey(upload.spec.target));
  }
  return { devices, trees };
}

/** A new request for a configuration cancels the older live chains of it; a flash past its claim finishes first. */
export function supersede(step: Step, configuration: Configuration, by: ChainId): readonly ChainId[] {
  const gone: ChainId[] = [];
  for (const chain of step.draft.chainsOf(configuration)) {
    if (chain.id === by) continue;
    if (cancelChain(step, chain, "superseded").jobs.length > 0) gone.push(chain.id);
  }
  return gone;
}
