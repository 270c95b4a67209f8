import { expect, test, vi } from "vitest";
import { silentLog } from "#actor/log.ts";
import { ChainStore } from "#bus/chain-store.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { request } from "#bus/rpc.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import { startChain } from "#coordinator/core/chains.ts";
import type { Lead } from "#coordinator/held-lease.ts";
import { AdminAnswer } from "#protocol/admin.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { adminSubject } from "#protocol/names.ts";
import { buildRequest, chainNumber, startAt } from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

/** A coordinator in the place of the farm's own one. */
async function startLeader(farm: ServedFarm, lead: Lead): Promise<Coordinator> {
  await farm.stopCoordinator();
  const ports = coordinatorPorts(await farm.server.connect("leader"));
  const leader = new Coordinator(ports, farm.clock, silentLog, { lead });
  await leader.start();
  return leader;
}

async function writeBehindItsBack(farm: ServedFarm, n: number): Promise<void> {
  const store = new ChainStore(farm.user);
  const { lastSequence } = await store.load();
  const chain = startChain(buildRequest(n), startAt);
  expect(await store.commit(new Map([[chain.id, chain]]), lastSequence, false)).toMatchObject({ ok: true });
}

function ask(farm: ServedFarm, message: object): Promise<AdminAnswer> {
  return request(farm.user, adminSubject, { v: 1, ...message }, AdminAnswer, 400);
}

test("invariant 5: a coordinator whose lease has run out by its own clock answers nothing more and ends", async () => {
  await using farm = await ServedFarm.start();
  let isLeading = true;
  const leader = await startLeader(farm, { isLeading: () => isLeading, confirm: () => Promise.resolve(true) });
  expect(await ask(farm, { kind: "status" })).toMatchObject({ kind: "status" });
  isLeading = false;
  await expect(ask(farm, { kind: "submit", chains: [buildRequest(1)] })).rejects.toThrow(UnavailableError);
  await expect(ask(farm, { kind: "status" })).rejects.toThrow(UnavailableError);
  expect(await leader.finished()).toBe("deposed");
  await expect(ask(farm, { kind: "status" })).rejects.toMatchObject({ code: "no-responders" });
  expect((await new ChainStore(farm.user).load()).chains).toEqual([]);
});

test("a coordinator whose commit is refused because another one leads ends", async () => {
  await using farm = await ServedFarm.start();
  const leader = await startLeader(farm, { isLeading: () => true, confirm: () => Promise.resolve(false) });
  await writeBehindItsBack(farm, 1);
  await expect(ask(farm, { kind: "submit", chains: [buildRequest(2)] })).rejects.toThrow(UnavailableError);
  expect(await leader.finished()).toBe("deposed");
  const { chains } = await new ChainStore(farm.user).load();
  expect(chains.map(({ id }) => id)).toEqual([chainNumber(1)]);
});

test("a coordinator that is reconnected and finds that another one leads ends", async () => {
  await using farm = await ServedFarm.start();
  const leader = await startLeader(farm, { isLeading: () => true, confirm: () => Promise.resolve(false) });
  await farm.server.kill();
  await farm.server.restart();
  expect(await leader.finished()).toBe("deposed");
});

test("a coordinator whose commit is refused and who still leads goes on", async () => {
  await using farm = await ServedFarm.start();
  const confirm = vi.fn<() => Promise<boolean>>(() => Promise.resolve(true));
  const leader = await startLeader(farm, { isLeading: () => true, confirm });
  await writeBehindItsBack(farm, 1);
  await expect(ask(farm, { kind: "submit", chains: [buildRequest(2)] })).rejects.toThrow(UnavailableError);
  await farm.submit(buildRequest(2));
  expect(await farm.status()).toMatchObject({ live: 2 });
  expect(confirm).toHaveBeenCalledTimes(1);
  await leader.stop();
  expect(await leader.finished()).toBe("stopped");
});
