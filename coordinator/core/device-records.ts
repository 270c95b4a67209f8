/** What a chain says of its device. Pure. */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import type { Configuration } from "#protocol/ids.ts";
import { addressOfTarget } from "#protocol/job.ts";
import { effectOf } from "#protocol/failure.ts";

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
  const known = { ...common, ...(isBack ? { state: "rolled-back" } : { level }) };
  if (said === undefined) return known;
  const { compilationTime, mac, esphomeVersion, name } = said;
  return { ...known, ...(isBack ? {} : { build: compilationTime, esphomeVersion }), mac, name };
}

/**
 * What came before and still holds: an upload that did not come to its device, or could not ask it, says nothing of what runs there,
 * nor of what the device is.
 */
function withBefore(record: DeviceRecord, before: DeviceRecord | undefined): DeviceRecord {
  if (before === undefined) return record;
  const { mac, name, agent, needsFlash, build, esphomeVersion } = before;
  const isWritten = record.level !== undefined || record.needsFlash === true || record.state === "rolled-back";
  const kept = isWritten ? {} : { build, esphomeVersion, needsFlash };
  return withoutUndefined({ mac, name, agent, ...kept, ...record });
}

type Devices = ReadonlyMap<Configuration, DeviceRecord>;

/**
 * What some chains change in what is known of devices, in their order; a rename takes the former name away.
 * @returns the records that differ, and the configurations that have none any more
 */
export function devicesAfter(
  known: Devices,
  chains: Iterable<Chain>,
): { readonly changed: Devices; readonly gone: ReadonlySet<Configuration> } {
  const changed = new Map<Configuration, DeviceRecord>();
  const gone = new Set<Configuration>();
  for (const chain of chains) {
    const { configuration, renamedFrom, upload } = chain;
    const record = deviceRecordOf(chain);
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
