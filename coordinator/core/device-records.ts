/** What a chain says of its device, and by which address (MAC) a device is known. Pure. */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import type { Configuration } from "#protocol/ids.ts";
import { addressOfTarget, type Outcome, type UploadTarget } from "#protocol/job.ts";
import { effectOf } from "#protocol/failure.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";

type Flashed = Extract<Outcome, { kind: "flashed" }>;

/** What the farm knows of the chain's device, once its upload has ended; nothing for a chain that never came to it. */
export function deviceRecordOf({ id, configuration, upload, confirm }: Chain): DeviceRecord | undefined {
  if (upload === undefined || upload.startedAt === undefined || upload.endedAt === undefined) return undefined;
  const { outcome, assigned, spec } = upload;
  const common = {
    v: 1 as const,
    configuration,
    chain: id,
    at: upload.endedAt,
    state: upload.state,
    address: addressOfTarget(spec.target),
    ...(assigned === undefined ? {} : { agent: assigned.agent }),
  };
  if (outcome?.kind === "failed" && effectOf(outcome.failure) === "partial") return { ...common, needsFlash: true };
  if (outcome?.kind !== "flashed") return common;
  const said = confirm?.outcome?.kind === "confirmed" ? confirm.outcome.report : outcome.report;
  const level = confirm?.state === "succeeded" ? "confirmed" : outcome.level;
  const isBack = confirm?.outcome?.kind === "failed" && confirm.outcome.failure.kind === "rolled-back";
  const known = { ...common, ...(isBack ? { state: "rolled-back" } : { level }), ...chipOf(spec.target, outcome) };
  if (said === undefined) return known;
  const { compilationTime, mac, esphomeVersion, name } = said;
  return { ...known, ...(isBack ? {} : { build: compilationTime, esphomeVersion }), mac, name };
}

function chipOf(target: UploadTarget, { chipMac }: Flashed): Pick<DeviceRecord, "chipMac"> {
  return chipMac === undefined || target.kind !== "serial" || target.isOneOfMany === true ? {} : { chipMac };
}

/**
 * What came before and still holds: an upload that did not come to its device, or could not ask it, says nothing of what runs there,
 * nor of what the device is.
 */
function withBefore(record: DeviceRecord, before: DeviceRecord | undefined): DeviceRecord {
  if (before === undefined) return withMacOfChip(record);
  const { mac, chipMac, name, agent, needsFlash, build, esphomeVersion } = before;
  const isWritten = record.level !== undefined || record.needsFlash === true || record.state === "rolled-back";
  const kept = isWritten ? {} : { build, esphomeVersion, needsFlash };
  return withMacOfChip(withoutUndefined({ mac, chipMac, name, agent, ...kept, ...record }));
}

/** What the device says of itself is better: it is what is asked for over the air. */
function withMacOfChip(record: DeviceRecord): DeviceRecord {
  const mac = record.mac ?? record.chipMac;
  return mac === undefined ? record : { ...record, mac };
}

type Devices = ReadonlyMap<Configuration, DeviceRecord>;

/** A flash that was begun before its device was forgotten is one of the hardware that was replaced, whenever it ends. */
function isOfForgotten({ configuration, upload }: Chain, notes: Knowledge["notes"]): boolean {
  const { forgottenAt = Number.NEGATIVE_INFINITY } = notes.get(configuration) ?? {};
  return (upload?.dispatchedAt ?? Number.POSITIVE_INFINITY) <= forgottenAt;
}

/**
 * What some chains change in what is known of devices, in their order; a rename takes the former name away.
 * @returns the records that differ, and the configurations that have none any more
 */
export function devicesAfter(
  { devices: known, notes }: Pick<Knowledge, "devices" | "notes">,
  chains: Iterable<Chain>,
): { readonly changed: Devices; readonly gone: ReadonlySet<Configuration> } {
  const changed = new Map<Configuration, DeviceRecord>();
  const gone = new Set<Configuration>();
  for (const chain of chains) {
    const { configuration, renamedFrom, upload } = chain;
    const record = isOfForgotten(chain, notes) ? undefined : deviceRecordOf(chain);
    if (record !== undefined) {
      const before = gone.has(configuration) ? undefined : (changed.get(configuration) ?? known.get(configuration));
      changed.set(configuration, withBefore(record, before));
      gone.delete(configuration);
    }
    if (renamedFrom === undefined || upload?.state !== "succeeded") continue;
    changed.delete(renamedFrom);
    gone.add(renamedFrom);
  }
  return { changed, gone };
}

function withoutUndefined(record: { readonly [K in keyof DeviceRecord]: DeviceRecord[K] | undefined }): DeviceRecord {
  return Object.fromEntries(
    Object.entries(record).filter(([, value]) => value !== undefined),
  ) as unknown as DeviceRecord;
}

/**
 * A device is known by its address (MAC) from its first upload on: another one of the same name is not flashed in its place. Where the
 * name that it says is not the configured one, one configuration stands for several devices. Over a port it is what the chip told there
 * before, whatever the device says of itself.
 */
export function withKnownMac(target: UploadTarget, known: DeviceRecord | undefined): UploadTarget {
  if (known === undefined) return target;
  const isSaid = known.name === undefined ? known.chipMac !== undefined : known.name === target.name;
  const said = isSaid ? known.mac : undefined;
  if (target.kind === "ota") return withMac(target, said);
  const { network, isOneOfMany } = target;
  const atPort = isOneOfMany === true ? target : withMac(target, known.chipMac ?? said);
  return network === undefined ? atPort : { ...atPort, network: withMac(network, said) };
}

/** One that the configuration itself names counts for more. */
function withMac<T extends { readonly mac?: string | undefined }>(target: T, mac: string | undefined): T {
  return mac === undefined || target.mac !== undefined ? target : { ...target, mac };
}
