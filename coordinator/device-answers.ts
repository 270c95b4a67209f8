/** Answers what people ask and say of devices, and of the builds that they have run. */
import type { AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import type { Configuration } from "#protocol/ids.ts";
import { devicesAfter } from "#coordinator/core/device-records.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Knowledge } from "#coordinator/core/knowledge.ts";
import { lastGoodBuild } from "#coordinator/core/queries.ts";
import type { Twins } from "#coordinator/sightings.ts";
import type { Memory } from "#coordinator/memory.ts";

/** Every device, also where its upload has ended and the chain has not. */
export function devicesAnswer({ chains, knowledge }: Farm, twins: readonly Twins[]): AdminAnswer {
  const devices = devicesOf({ chains, knowledge });
  const byName = [...devices.values()].toSorted((a, b) => (a.configuration < b.configuration ? -1 : 1));
  const notes = [...knowledge.notes.values()].filter(({ isHeld }) => isHeld);
  return {
    kind: "devices",
    devices: byName,
    notes,
    ...(twins.length === 0 ? {} : { twins: twins.map(({ name, macs }) => ({ name, macs: [...macs] })) }),
  };
}

function devicesOf({ chains, knowledge }: Pick<Farm, "chains" | "knowledge">): Knowledge["devices"] {
  const live = [...chains.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const { changed, gone } = devicesAfter(knowledge, live);
  const devices = new Map([...knowledge.devices, ...changed]);
  for (const configuration of gone) devices.delete(configuration);
  return devices;
}

/** @throws UnavailableError */
export async function holdDevice(
  memory: Memory,
  { configuration, isHeld, reason }: Extract<AdminRequest, { kind: "hold-device" }>,
): Promise<AdminAnswer> {
  return { kind: "device-noted", note: await memory.setHeld(configuration, isHeld, reason) };
}

/** Also what chains that are not over have said of it, and will say. @throws UnavailableError */
export async function forgetDevice(memory: Memory, farm: Farm, configuration: Configuration): Promise<AdminAnswer> {
  const isLive = devicesOf(farm).has(configuration);
  const wasKnown = await memory.forgetDevice(configuration);
  return { kind: "device-forgotten", configuration, wasKnown: wasKnown || isLive };
}

/** @param newestFirst live and ended chains */
export function lastGoodAnswer(newestFirst: readonly Chain[], configuration: Configuration): AdminAnswer {
  const found = lastGoodBuild(newestFirst, configuration);
  if (found === undefined) {
    const message = `no other build is known that the device of ${configuration} has run well; \`flashyard history ${configuration}\` lists what there is, and \`flashyard upload FILE --from CHAIN\` flashes one of them`;
    return { kind: "refused", code: "not-found", message };
  }
  return { kind: "newest-build", ...found };
}
