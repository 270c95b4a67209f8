/** What users ask of the commanded farm. */
import type { ChainRequest } from "#protocol/admin.ts";
import {
  buildRequest,
  chainNumber,
  configurationNamed,
  installRequest,
  renameRequest,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { type FarmAct, picked } from "#test/support/farm-act.ts";

const configurations = ["kitchen", "kitchen copy", "cellar"];
/** The first two are one device. */
const hosts = ["10.0.0.1", "10.0.0.1", "10.0.0.2"];

export function newRequest(act: FarmAct, index = 0): ChainRequest {
  const { pick, other } = act.choice;
  const which = (other + index) % configurations.length;
  const names = { configuration: configurations[which]!, host: hosts[which]! };
  const n = act.farm.nextId();
  switch ((pick + index) % 7) {
    case 0:
      return buildRequest(n, names);
    case 1:
      return renameRequest(n, { ...names, renamed: picked(configurations, which + 1)! });
    case 2:
      return installRequest(n, names);
    // What needs no build before it comes to the flash, which most promises are about.
    default:
      return uploadRequest(n, names);
  }
}

export async function submit(act: FarmAct): Promise<void> {
  const { pick, other, isOdd } = act.choice;
  const fresh = Array.from({ length: (other % 3) + 1 }, (_, index) => newRequest(act, index));
  const before = isOdd ? picked(act.promises.requests, pick) : undefined;
  const chains = before === undefined ? fresh : [before, ...fresh.slice(1)];
  act.promises.requested(chains);
  await act.ask({ v: 1, kind: "submit", chains });
}

export async function cancel(act: FarmAct): Promise<void> {
  const { pick, other } = act.choice;
  if (pick % 7 === 0) return act.ask({ v: 1, kind: "cancel", of: { all: true } });
  const chain = picked([...act.promises.accepted].slice(-4), other);
  const name = pick % 3 === 0 || chain === undefined ? picked(configurations, other)! : chain;
  const job = picked(["", "", ".upload", ".compile"], pick)!;
  await act.ask({ v: 1, kind: "cancel", of: { reference: `${name}${job}` } });
}

export async function clean(act: FarmAct): Promise<void> {
  const id = act.choice.isOdd ? picked([...act.promises.accepted], act.choice.pick) : undefined;
  const configuration = configurationNamed(picked(configurations, act.choice.other)!);
  await act.ask({ v: 1, kind: "clean", id: id ?? chainNumber(act.farm.nextId()), configuration });
}

export async function reset(act: FarmAct): Promise<void> {
  await act.ask({ v: 1, kind: "reset", id: chainNumber(act.farm.nextId()) });
}

export async function resolveDevice(act: FarmAct): Promise<void> {
  const { pick, other, isOdd } = act.choice;
  const chain = picked(isOdd ? [...act.promises.accepted] : act.promises.unknown, pick);
  if (chain === undefined) return;
  act.promises.settled(chain);
  await act.ask({ v: 1, kind: "resolve-device", reference: chain, isRunning: other % 2 === 0 });
}
