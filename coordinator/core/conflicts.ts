/** Which jobs exclude each other: two requests for one configuration, two flashes of one device, two builds in one tree. */
import { type Chain, configurationsOf } from "#protocol/chain.ts";
import type { ChainId, Configuration } from "#protocol/ids.ts";
import { isScarce, type Job, mediumName, mediumOf, networkOf, type UploadTarget } from "#protocol/job.ts";
import { cancelChain } from "#coordinator/core/cancel.ts";
import { isInHand, takesDevice } from "#coordinator/core/in-hand.ts";
import type { Step } from "#coordinator/core/step.ts";

/**
 * A device is known by where it is reached, over the network or at a port; two configurations with one address are one device. A rename takes the address
 * that its device has now and the one that it will have.
 */
export function deviceKeys(target: UploadTarget): readonly string[] {
  const network = networkOf(target);
  const hosts = network === undefined ? [] : [network.host, network.hostAfter ?? network.host];
  const addresses = new Set(hosts.map((name) => `${name.toLowerCase()}:${network?.port}`));
  return target.kind === "serial" ? [`port ${target.port}`, ...addresses] : [...addresses];
}

/** What carries this flash and no other at the same time; undefined for a medium that carries many. */
export function scarceSegment(target: UploadTarget): string | undefined {
  const medium = mediumOf(target);
  return isScarce(medium) ? mediumName(medium) : undefined;
}

/** Devices, scarce segments and trees that are taken at this moment. */
export interface Taken {
  readonly devices: ReadonlySet<string>;
  /** A probe that waits keeps its device, and lets others on the air. */
  readonly segments: ReadonlySet<string>;
  readonly trees: ReadonlySet<Configuration>;
}

/** What these chains take; a chain that takes nothing may be left out. */
export function takenIn(chains: Iterable<Chain>): Taken {
  const devices = new Set<string>();
  const segments = new Set<string>();
  const trees = new Set<Configuration>();
  for (const chain of chains) {
    const { compile, upload, confirm } = chain;
    if (upload !== undefined && isInHand(confirm?.state))
      for (const device of deviceKeys(upload.spec.target)) devices.add(device);
    if (isInHand(compile?.state)) for (const configuration of configurationsOf(chain)) trees.add(configuration);
    if (upload === undefined || !takesDevice(upload)) continue;
    for (const device of deviceKeys(upload.spec.target)) devices.add(device);
    const segment = scarceSegment(upload.spec.target);
    if (segment !== undefined && isInHand(upload.state)) segments.add(segment);
  }
  return { devices, segments, trees };
}

/**
 * A new request for a configuration cancels the older live chains of it; a flash past its claim finishes first. A rename locks
 * two names, and gives way for, and to, whatever has one of them. What takes trees away is no request for a build: it goes on.
 */
export function supersede(step: Step, by: Chain): readonly ChainId[] {
  const gone: ChainId[] = [];
  for (const older of olderOf(step, by)) {
    if (older.clean === undefined && cancelChain(step, older, "superseded").jobs.length > 0) gone.push(older.id);
  }
  return gone;
}

/** Other chains with a configuration of this one. */
export function olderOf(step: Step, chain: Chain): readonly Chain[] {
  const found = new Map<ChainId, Chain>();
  for (const name of configurationsOf(chain)) {
    for (const other of step.draft.chainsOf(name)) if (other.id !== chain.id) found.set(other.id, other);
  }
  return [...found.values()];
}

/**
 * The build gate: while trees are taken away, no build or upload of what is concerned is dispatched. Probes pass, because
 * what waits for a device's word may be what the gate waits for.
 */
export interface Gate {
  readonly isResetting: boolean;
  readonly cleaning: ReadonlySet<Configuration>;
}

/** @param cleaning chains of which a clean is not over */
export function gateOf(cleaning: Iterable<Chain>): Gate {
  const configurations = new Set<Configuration>();
  let isResetting = false;
  for (const { kind, configuration } of cleaning) {
    if (kind === "reset") isResetting = true;
    else configurations.add(configuration);
  }
  return { isResetting, cleaning: configurations };
}

/** Whether the gate holds a queued job of the chain back. */
export function isGated({ isResetting, cleaning }: Gate, chain: Chain, job: Job): boolean {
  if (job.name === "confirm" || (job.name === "upload" && job.mode === "probe")) return false;
  if (job.name === "clean") return isResetting && chain.kind !== "reset";
  return isResetting || configurationsOf(chain).some((name) => cleaning.has(name));
}
