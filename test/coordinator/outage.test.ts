import { expect, test, vi } from "vitest";
import type { ChainRecords } from "#actor/coordinator-ports.ts";
import { silentLog } from "#actor/log.ts";
import { ChainStore } from "#bus/chain-store.ts";
import { coordinatorPorts } from "#bus/coordinator-ports.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { request } from "#bus/rpc.ts";
import { Coordinator } from "#coordinator/coordinator.ts";
import { startChain } from "#coordinator/core/chains.ts";
import { AdminAnswer } from "#protocol/admin.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { presenceTtlMs } from "#protocol/limits.ts";
import { adminSubject, buckets, keySubject } from "#protocol/names.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import {
  buildRequest,
  built,
  chainNumber,
  cleaned,
  flashed,
  installRequest,
  startAt,
} from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

/** Writes a chain as another coordinator would, which the farm's own one has not seen. */
async function writeBehindItsBack(farm: ServedFarm, n: number): Promise<void> {
  const store = new ChainStore(farm.user);
  const { lastSequence } = await store.load();
  const chain = startChain(buildRequest(n), startAt);
  expect(await store.commit(new Map([[chain.id, chain]]), lastSequence, false)).toMatchObject({ ok: true });
}

test("after kill -9 and a restart of the server chains go on, and dispatches come again", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder", { slots: 2 });
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(installRequest(1), installRequest(2));
  const running = await builder.next();
  await running.claim();
  const unclaimed = await builder.next();
  await farm.server.kill();
  await farm.server.restart();

  expect(await running.report(built())).toMatchObject({ verdict: "noted" });
  const again = await builder.next();
  expect(again.dispatch).toEqual(unclaimed.dispatch);
  expect(await again.claim()).toMatchObject({ verdict: "go" });
  await again.report(built());
  for (let i = 0; i < 2; i++) {
    const upload = await flasher.next();
    await upload.claim();
    await upload.claimFlash();
    await upload.report(flashed);
  }
  await farm.untilArchived();
  for (const n of [1, 2]) expect((await farm.chain(`device ${n}`)).upload?.state).toBe("succeeded");
});

test("an agent that works on through an outage of the server is not given up, and its job is not repeated", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(buildRequest(1));
  const job = await builder.next();
  await job.claim();
  await farm.server.kill();
  farm.clock.jump(presenceTtlMs + 1_000);
  // Two pulses of the coordinator, at which it could wrongly give the agent up.
  const pauses = new Arrivals<number>("pulse");
  farm.clock.onPaused = pauses.push;
  for (let i = 0; i < 2; i++) await pauses.next((ms) => ms >= 500);
  await farm.server.restart();
  expect(await job.report(built())).toMatchObject({ verdict: "noted" });
  await farm.untilArchived();
  expect((await farm.chain("device 1")).compile).toMatchObject({ state: "succeeded", attempt: 1, earlier: [] });
});

test("an agent that dies while the server is away is noticed, and its job goes to another", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(buildRequest(1));
  await (await builder.next()).claim();
  await farm.until("device 1", "compile", "running");
  await farm.server.kill();
  await builder[Symbol.asyncDispose]();
  farm.clock.jump(presenceTtlMs + 1_000);
  await farm.server.restart();
  const second = await farm.agent("compile", "second");
  await farm.untilKnown("second");
  farm.clock.jump(presenceTtlMs + 1_000);
  const job = await second.next();
  expect(job.dispatch).toMatchObject({ chain: chainNumber(1), attempt: 2 });
});

test("invariant 1: what could not be committed is not answered, and nothing of it is done", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder", { slots: 2 });
  await farm.untilKnown("builder");
  await writeBehindItsBack(farm, 1);
  const submit = { v: 1, kind: "submit", chains: [installRequest(2)] };
  await expect(request(farm.user, adminSubject, submit, AdminAnswer, 400)).rejects.toThrow(UnavailableError);
  const { chains } = await new ChainStore(farm.user).load();
  expect(chains.map(({ id }) => id)).toEqual([chainNumber(1)]);
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(1));
  expect(builder.deliveries).toBe(1);
});

test("a writer behind its back makes the next commit fail; it resynchronises and goes on with both", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(buildRequest(1));
  await writeBehindItsBack(farm, 2);
  const submit = { v: 1, kind: "submit", chains: [buildRequest(3)] };
  await expect(request(farm.user, adminSubject, submit, AdminAnswer, 400)).rejects.toThrow(UnavailableError);
  await farm.submit(buildRequest(3));
  expect(await farm.status()).toMatchObject({ live: 3, queueDepth: 3 });
  const builder = await farm.agent("compile", "builder", { slots: 3 });
  const chains = [await builder.next(), await builder.next(), await builder.next()].map(
    ({ dispatch }) => dispatch.chain,
  );
  expect(chains.sort()).toEqual([1, 2, 3].map(chainNumber));
});

test("an agent whose first statement was lost with a failed commit is known all the same", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(buildRequest(1));
  await writeBehindItsBack(farm, 2);
  // Its statement would assign the chain, and that commit fails.
  const builder = await farm.agent("compile", "builder", { slots: 2 });
  const chains = [await builder.next(), await builder.next()].map(({ dispatch }) => dispatch.chain);
  expect(chains.sort()).toEqual([1, 2].map(chainNumber));
});

test("two coordinators at once never accept twice or lose what was accepted", async () => {
  await using farm = await ServedFarm.start();
  const second = new Coordinator(coordinatorPorts(await farm.server.connect("second")), farm.clock, silentLog);
  await second.start();
  for (let n = 1; n <= 10; n++) {
    const answer = await vi.waitFor(() => {
      const asked = { v: 1 as const, kind: "submit", chains: [buildRequest(n)] };
      return request(farm.user, adminSubject, asked, AdminAnswer, 500);
    }, 8_000);
    expect(answer).toMatchObject({ kind: "accepted", chains: [chainNumber(n)] });
  }
  const { chains } = await new ChainStore(farm.user).load();
  expect(chains.map(({ id }) => id).sort()).toEqual(Array.from({ length: 10 }, (_, index) => chainNumber(index + 1)));
  await second.stop();
});

test("a coordinator that starts finds everything: what runs, what was dispatched and what waits", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder", { slots: 2 });
  await farm.submit(installRequest(1), installRequest(2), installRequest(3));
  const running = await builder.next();
  await running.claim();
  const dispatched = await builder.next();
  await farm.restartCoordinator();
  expect(await farm.status()).toMatchObject({ live: 3, queueDepth: 1 });
  expect(await running.report(built())).toMatchObject({ verdict: "noted" });
  expect(await dispatched.claim()).toMatchObject({ verdict: "go" });
  expect((await builder.next()).dispatch).toMatchObject({ chain: chainNumber(3), attempt: 1 });
  expect(await farm.chain("device 1")).toMatchObject({ compile: { state: "succeeded" }, upload: { state: "queued" } });
});

test("what somebody else had under way when a coordinator started never lands", async () => {
  await using farm = await ServedFarm.start();
  const store = new ChainStore(farm.user);
  const { lastSequence } = await store.load();
  await farm.restartCoordinator();
  const chain = startChain(buildRequest(1), startAt);
  expect(await store.commit(new Map([[chain.id, chain]]), lastSequence, false)).toMatchObject({ ok: false });
  expect(await farm.status()).toMatchObject({ live: 0 });
});

test("a reset that is asked again after its end, because its answer was lost, ends nothing that came later", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.untilKnown("builder");
  const reset = { v: 1 as const, kind: "reset" as const, id: chainNumber(1) };
  await farm.ask("accepted", reset);
  const clean = await builder.next();
  await clean.claim();
  await clean.report(cleaned);
  await farm.untilArchived();
  await farm.submit(buildRequest(2));
  await (await builder.next()).claim();
  expect(await farm.ask("accepted", reset)).toMatchObject({ superseded: [] });
  expect((await farm.chain("device 2")).compile?.state).toBe("running");
});

test("a finished chain whose archiving was cut off is archived by the next coordinator", async () => {
  await using farm = await ServedFarm.start();
  const store = new ChainStore(farm.user);
  const fresh = startChain(buildRequest(1), startAt);
  const finished = { ...fresh, compile: { ...fresh.compile!, state: "cancelled" as const, endedAt: startAt } };
  const { lastSequence } = await store.load();
  await store.commit(new Map([[fresh.id, finished]]), lastSequence, false);
  await farm.restartCoordinator();
  await farm.untilArchived();
  expect(await farm.chain("device 1")).toEqual(finished);
});

test("a record that cannot be decoded does not keep the others from going on", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(buildRequest(1));
  await farm.user.request(keySubject(buckets.chains, chainNumber(9)), "not json");
  await farm.restartCoordinator();
  expect(await farm.status()).toMatchObject({ live: 1 });
  await farm.submit(buildRequest(2));
  expect(await farm.status()).toMatchObject({ live: 2 });
});

test("stopped before it starts, twice, or while it starts, a coordinator ends stopped and answers nothing", async () => {
  await using farm = await ServedFarm.start();
  await farm.stopCoordinator();
  const order: readonly ((coordinator: Coordinator) => Promise<unknown>)[] = [
    (coordinator) => coordinator.stop().then(() => coordinator.start()),
    (coordinator) => coordinator.start().then(() => Promise.all([coordinator.stop(), coordinator.stop()])),
    (coordinator) => Promise.all([coordinator.start(), coordinator.stop()]),
    (coordinator) => Promise.all([coordinator.stop(), coordinator.start(), coordinator.stop()]),
    (coordinator) => Promise.all([coordinator.start(), farm.user.flush().then(() => coordinator.stop())]),
  ];
  for (const run of order) {
    const connection = await farm.server.connect("coordinator");
    const coordinator = new Coordinator(coordinatorPorts(connection), farm.clock, silentLog);
    await run(coordinator);
    await coordinator.stop();
    await coordinator.finished();
    // The server has heard that it listens no more.
    await connection.flush();
    const status = askAdmin(farm.user, { v: 1, kind: "status" });
    await expect(status).rejects.toMatchObject({ code: "no-responders" });
  }
});

test("who asks while a commit is under way is told what it has written", async () => {
  await using farm = await ServedFarm.start();
  await farm.stopCoordinator();
  const connection = await farm.server.connect("coordinator");
  const ports = coordinatorPorts(connection);
  const written = Promise.withResolvers<void>();
  const heard = Promise.withResolvers<void>();
  const records: ChainRecords = {
    removedMs: ports.records.removedMs,
    load: () => ports.records.load(),
    fence: (expected) => ports.records.fence(expected),
    async commit(changes, expected, isAtomic) {
      const result = await ports.records.commit(changes, expected, isAtomic);
      written.resolve();
      await heard.promise;
      return result;
    },
  };
  await using coordinator = new Coordinator({ ...ports, records }, farm.clock, silentLog);
  await coordinator.start();
  const submitted = farm.submit(buildRequest(1));
  await written.promise;
  const asked = askAdmin(farm.user, { v: 1, kind: "chains", ended: 0 });
  // The question has been taken before the commit ends.
  await farm.user.flush();
  await connection.flush();
  heard.resolve();
  expect(await asked).toMatchObject({ live: [{ chain: { id: chainNumber(1) } }] });
  await submitted;
});
