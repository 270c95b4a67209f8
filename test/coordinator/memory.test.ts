/** What the farm remembers beside its chains, through the real coordinator and a real nats-server. */
import { expect, test, vi } from "vitest";
import { digestOf } from "#actor/digest.ts";
import { ObjectStore } from "#bus/object-store.ts";
import type { ChainId } from "#protocol/ids.ts";
import { objectStores } from "#protocol/names.ts";
import {
  agentNamed,
  buildRequest,
  built,
  chainNumber,
  failedWith,
  flashed,
  installRequest,
} from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

const withinMs = 8_000;

test("a drained agent ends what it has and gets nothing new, also from the next coordinator, until it is undrained", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(buildRequest(1));
  const first = await builder.next();
  await first.claim();
  const drained = await farm.ask("drained", { v: 1, kind: "drain", agent: agentNamed("builder"), isDrained: true });
  expect(drained).toMatchObject({ isDrained: true, busy: 1 });
  await farm.submit(buildRequest(2));
  await first.report(built());
  await farm.until(chainNumber(1), "compile", "succeeded");
  await farm.restartCoordinator();
  await farm.untilKnown("builder");
  const { agents } = await farm.ask("agents", { v: 1, kind: "agents" });
  expect(agents.map(({ isDrained }) => isDrained)).toEqual([true]);
  expect((await farm.chain(chainNumber(2))).compile?.state).toBe("queued");
  await farm.ask("drained", { v: 1, kind: "drain", agent: agentNamed("builder"), isDrained: false });
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(2));
});

test("an agent that nobody knows cannot be drained", async () => {
  await using farm = await ServedFarm.start();
  const answer = await farm.ask("refused", { v: 1, kind: "drain", agent: agentNamed("nobody"), isDrained: true });
  expect(answer).toMatchObject({
    code: "not-found",
    message: "no agent is called nobody; `flashyard agents` lists them",
  });
});

test("a build that has ended serves an equal request, also after a restart, until the trees are cleaned", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder", { warm: ["lamp"] });
  const lamp = (n: number) => buildRequest(n, { configuration: "lamp", bundle: 7 });
  await farm.submit(lamp(1));
  const job = await builder.next();
  await job.claim();
  await job.report(built());
  await farm.untilArchived();
  await farm.restartCoordinator();
  await farm.submit(lamp(2));
  const reused = await farm.until(chainNumber(2), "compile", "succeeded");
  expect(reused.compile?.outcome).toMatchObject({ kind: "built", reusedFrom: chainNumber(1) });
  expect(await farm.ask("cache", { v: 1, kind: "cache" })).toMatchObject({ builds: [{ chain: chainNumber(1) }] });
  await farm.untilArchived();
  await farm.clean(10, "lamp");
  const clean = await builder.next();
  await clean.claim();
  await clean.report({ kind: "cleaned", trees: 1 });
  await farm.untilArchived();
  expect(await farm.ask("cache", { v: 1, kind: "cache" })).toMatchObject({ builds: [] });
  await farm.submit(lamp(20));
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(20));
});

test("a build whose image was not as it was built in the store is made anew by the next request", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  const lamp = (n: number) => installRequest(n, { configuration: "lamp", bundle: 7 });
  await farm.submit(lamp(1));
  const build = await builder.next();
  await build.claim();
  await build.report(built());
  const damaged = { kind: "artifact-mismatch" as const, wanted: "this", found: "that" };
  for (const n of [1, 2]) {
    const flash = await flasher.next();
    expect(flash.dispatch.chain).toBe(chainNumber(n));
    await flash.claim();
    await flash.report(n === 1 ? flashed : failedWith(damaged));
    await farm.untilArchived();
    await farm.submit(lamp(n + 1));
  }
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(3));
});

test("the build of an agent whose connection is gone starts elsewhere within 2 s", async () => {
  await using farm = await ServedFarm.start();
  const doomed = await farm.agent("compile", "doomed");
  await farm.submit(installRequest(1));
  await (await doomed.next()).claim();
  const spare = await farm.agent("compile", "spare");
  await farm.untilKnown("spare");
  // The coordinator has been there for longer than agents need to connect.
  farm.clock.jump(1_000);
  // Its process is gone and with it its subscriptions; its last statement stays for five seconds.
  const killedAt = performance.now();
  await doomed[Symbol.asyncDispose]();
  const again = await spare.next();
  expect(again.dispatch).toMatchObject({ chain: chainNumber(1), attempt: 2 });
  expect(performance.now() - killedAt).toBeLessThan(2_000);
});

test("the build of an agent that is frozen starts elsewhere within 10 s", async () => {
  await using farm = await ServedFarm.start();
  const frozen = await farm.agent("compile", "frozen");
  await farm.submit(installRequest(1));
  await (await frozen.next()).claim();
  const spare = await farm.agent("compile", "spare");
  await farm.untilKnown("spare");
  const frozenAt = performance.now();
  frozen.freeze();
  const again = await spare.next();
  expect(again.dispatch).toMatchObject({ chain: chainNumber(1), attempt: 2 });
  expect(performance.now() - frozenAt).toBeLessThan(10_000);
});

test("pruning the cache forgets old builds and deletes what nothing names, and nothing else", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(buildRequest(1));
  const job = await builder.next();
  await job.claim();
  await job.report(built());
  await farm.untilArchived();
  const bundles = new ObjectStore(farm.user, objectStores.bundles);
  const [wanted, forgotten] = [Buffer.from("a chain that waits names it"), Buffer.from("nobody names it")];
  for (const bytes of [wanted, forgotten]) await bundles.put(digestOf(bytes), bytes);
  const request = buildRequest(2);
  const elsewhere = { on: agentNamed("nobody"), labels: [] };
  await farm.submit({ ...request, build: { ...request.build!, bundle: digestOf(wanted) }, route: elsewhere });
  const prune = (before: number) => farm.ask("cache-pruned", { v: 1, kind: "prune-cache", before });
  expect(await prune(0)).toMatchObject({ builds: 0, objects: 0 });
  // Not yet: whoever stored it a moment ago may be about to ask for its chain.
  await vi.waitFor(
    async () => expect(await prune(farm.clock.now())).toMatchObject({ builds: 1, objects: 0 }),
    withinMs,
  );
  farm.clock.jump(2 * 60 * 60_000);
  expect(await prune(farm.clock.now())).toMatchObject({ objects: 1 });
  expect([await bundles.has(digestOf(wanted)), await bundles.has(digestOf(forgotten))]).toEqual([true, false]);
});

test("chains that are too many for one message are told in several", async () => {
  await using farm = await ServedFarm.start();
  // Names as long as they may be: six megabytes of records.
  for (let first = 1; first < 6_000; first += 1_000) {
    const requests = Array.from({ length: 1_000 }, (_, index) =>
      installRequest(first + index, { configuration: `${"long ".repeat(22)}${first + index}` }),
    );
    await farm.submit(...requests);
  }
  const found: ChainId[] = [];
  let pages = 0;
  for (let isCut = true; isCut; pages += 1) {
    const after = found.at(-1);
    const of = after === undefined ? {} : { after };
    const answer = await farm.ask("chains", { v: 1, kind: "chains", ended: 0, ...of });
    found.push(...answer.live.map(({ chain }) => chain.id));
    isCut = answer.isCut === true;
  }
  expect(found).toEqual(Array.from({ length: 6_000 }, (_, index) => chainNumber(index + 1)));
  expect(pages).toBeGreaterThan(1);
});
