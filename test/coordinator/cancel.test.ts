import { expect, test } from "vitest";
import { built, chainNumber, flashed, installRequest, uploadRequest } from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

test("a queued job is cancelled at once, with the upload that was held for it", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(installRequest(1));
  expect(await farm.cancel("device 1")).toMatchObject({ jobs: ["upload", "compile"], tooLate: [] });
  await farm.untilArchived();
  const cancelled = { state: "cancelled", outcome: { kind: "cancelled", cause: "request" } };
  expect(await farm.chain("device 1")).toMatchObject({ compile: cancelled, upload: cancelled });
});

test("a dispatched job that nobody has claimed is cancelled, and its claim is dropped", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(installRequest(1));
  const job = await builder.next();
  await farm.cancel(`${chainNumber(1)}.compile`);
  expect(await job.claim()).toMatchObject({ verdict: "drop" });
  await farm.untilArchived();
  expect((await farm.chain("device 1")).compile?.state).toBe("cancelled");
  await farm.submit(installRequest(2));
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(2));
});

test("a running job is stopped, and is cancelled once its agent says that it is dead", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(installRequest(1));
  const job = await builder.next();
  await job.claim();
  await farm.cancel("device 1");
  expect(await builder.stops.next()).toEqual({ v: 1, chain: chainNumber(1), job: "compile", attempt: 1 });
  expect(await farm.until("device 1", "compile", "cancelling")).toMatchObject({ upload: { state: "cancelled" } });
  // It had just finished: cancelled all the same, and nothing is flashed.
  await job.report(built());
  await farm.untilArchived();
  expect((await farm.chain("device 1")).compile?.state).toBe("cancelled");
  expect(flasher.deliveries).toBe(0);
});

test("a stop order that was lost is given again while the agent still says that it holds the job", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(installRequest(1));
  const job = await builder.next();
  await job.claim();
  await farm.cancel("device 1");
  const order = { chain: chainNumber(1), attempt: 1 };
  for (let i = 0; i < 2; i++) expect(await builder.stops.next()).toMatchObject(order);
  await job.report({ kind: "stopped" });
  await farm.untilArchived();
});

test("a flash that was claimed wins against a cancel, and its end is what counts", async () => {
  await using farm = await ServedFarm.start();
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(uploadRequest(1));
  const job = await flasher.next();
  await job.claim();
  await job.claimFlash();
  expect(await farm.cancel("device 1")).toMatchObject({ jobs: [], tooLate: ["upload"] });
  await job.report(flashed);
  await farm.untilArchived();
  expect((await farm.chain("device 1")).upload?.state).toBe("succeeded");
});

test("a new request for a configuration supersedes the older one", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(installRequest(1, { configuration: "kitchen" }));
  const { superseded } = await farm.submit(installRequest(2, { configuration: "kitchen" }));
  expect(superseded).toEqual([chainNumber(1)]);
  expect((await farm.chain(chainNumber(1))).compile?.outcome).toEqual({ kind: "cancelled", cause: "superseded" });
  expect((await farm.chain("kitchen")).id).toBe(chainNumber(2));
});
