/** The invariants themselves: a sound farm breaks none, and each of them notices the farm that breaks it. */
import { expect, test } from "vitest";
import type { Chain } from "#protocol/chain.ts";
import type { CompileJob, UploadJob } from "#protocol/job.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { checkFarm } from "#coordinator/core/invariants.ts";
import { agentNamed, built, chainNumber, installRequest, uploadRequest } from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

/** A farm in which chain 1 has built and uploads, chain 2 is held, and both have agents. */
function sound(): Farm {
  const farm = new TestFarm();
  farm.compileAgent("bench", { slots: 2 });
  farm.uploadAgent("pi", { slots: 2 });
  farm.submit(installRequest(1), installRequest(2));
  farm.claim(1, "compile");
  farm.report(1, "compile", built());
  farm.claim(1, "upload");
  return farm.farm;
}

type Broken = { compile?: Partial<CompileJob>; upload?: Partial<UploadJob> };

function breaking(farm: Farm, n: number, { compile, upload }: Broken, without: readonly string[] = []): Farm {
  const chain = farm.chains.get(chainNumber(n)) as Chain;
  const bare = <T extends object>(job: T): T =>
    Object.fromEntries(Object.entries(job).filter(([key]) => !without.includes(key))) as T;
  const broken: Chain = {
    ...chain,
    ...(chain.compile === undefined ? {} : { compile: bare({ ...chain.compile, ...compile }) }),
    ...(chain.upload === undefined ? {} : { upload: bare({ ...chain.upload, ...upload }) }),
  };
  return { ...farm, chains: new Map([...farm.chains, [chain.id, broken]]) };
}

test("a sound farm breaks no invariant", () => {
  expect(checkFarm(sound())).toEqual([]);
});

test.each<[string, Farm]>([
  ["1: a release without a success", breaking(sound(), 2, { upload: { state: "queued" } })],
  ["2: a job in hand that is assigned to nobody", breaking(sound(), 1, {}, ["assigned"])],
  ["2: a queued job that is assigned", breaking(sound(), 1, { upload: { state: "queued" } })],
  ["3: an end without an outcome", breaking(sound(), 1, {}, ["outcome"])],
  ["3: a failed build with a live upload", breaking(sound(), 2, { compile: { state: "failed" } })],
  [
    "5: a flash claim without an artifact",
    breaking(sound(), 1, { upload: { flashClaim: { attempt: 1, at: 1 } } }, ["outcome"]),
  ],
  ["5: a probe though nobody has flashed", breaking(sound(), 1, { upload: { mode: "probe" } })],
])("%s is noticed", (name, farm) => {
  expect(checkFarm(farm).map((sentence) => sentence.slice(0, 2))).toContain(name.slice(0, 2));
});

test("4: two uploads to one device in hand are noticed", () => {
  const farm = new TestFarm();
  farm.uploadAgent("pi", { slots: 2 });
  farm.submit(uploadRequest(1), uploadRequest(2));
  const [first, second] = [farm.chain(1), farm.chain(2)];
  const clash = {
    ...second,
    upload: { ...second.upload!, spec: { ...second.upload!.spec, target: first.upload!.spec.target } },
  };
  expect(checkFarm({ ...farm.farm, chains: new Map([...farm.farm.chains, [clash.id, clash]]) })).toEqual([
    `4: two uploads to device-1.local:3232 are in hand, one of them ${clash.id}`,
  ]);
});

test("4 and 7: two live chains of a configuration that build at once are noticed", () => {
  const farm = sound();
  const second = farm.chains.get(chainNumber(2)) as Chain;
  const twin: Chain = { ...second, id: chainNumber(3) };
  const broken = checkFarm({ ...farm, chains: new Map([...farm.chains, [twin.id, twin]]) });
  expect(broken).toContain(`4: two builds of device 2 are in hand, one of them ${twin.id}`);
  expect(broken).toContain(`7: two live chains of device 2, one of them ${twin.id}`);
});

test("6: more jobs in hand than a present agent has slots are noticed", () => {
  const farm = sound();
  const agents = new Map(
    [...farm.agents].map(([id, state]) => [id, { ...state, announcement: { ...state.announcement, slots: 1 } }]),
  );
  const two = breaking({ ...farm, agents }, 1, { compile: { state: "running" } });
  expect(checkFarm(two)).toContain("6: bench has 2 jobs for 1 slots");
});

test("6: a job that has given its slot back does not count, and no more of them than there are slots", () => {
  const farm = sound();
  const bench = farm.agents.get(agentNamed("bench"))!;
  const storing = (n: number) => ({ chain: chainNumber(n), job: "compile" as const, attempt: 1, isStoring: true });
  const announcement = { ...bench.announcement, slots: 1, holding: [storing(1)] };
  const agents = new Map([...farm.agents, [announcement.agent, { ...bench, announcement }]]);
  const two = breaking({ ...farm, agents }, 1, { compile: { state: "running" } });
  expect(checkFarm(two).filter((sentence) => sentence.startsWith("6:"))).toEqual([]);
  const { chains } = breaking(two, 2, { compile: { state: "running" } });
  const third: Chain = { ...(chains.get(chainNumber(2)) as Chain), id: chainNumber(3) };
  const three = { ...two, chains: new Map([...chains, [third.id, third]]) };
  expect(checkFarm(three)).toContain("6: bench has 2 jobs for 1 slots");
});

test("9: two flashes on one scarce segment are noticed", () => {
  const farm = new TestFarm();
  farm.uploadAgent("pi", { slots: 2 });
  farm.submit(uploadRequest(1), uploadRequest(2));
  const chains = [1, 2].map((n): [Chain["id"], Chain] => {
    const chain = farm.chain(n);
    const upload = chain.upload!;
    const target = { ...upload.spec.target, medium: { kind: "thread" as const, segment: "hall" } };
    return [chain.id, { ...chain, upload: { ...upload, spec: { ...upload.spec, target } } }];
  });
  expect(checkFarm({ ...farm.farm, chains: new Map(chains) })).toEqual([
    `9: two uploads by thread:hall, one of them ${chainNumber(2)}`,
  ]);
});
