import { jetstreamManager } from "@nats-io/jetstream";
import { expect, test, vi } from "vitest";
import { AdminAnswer, type ChainRequest } from "#protocol/admin.ts";
import { encode } from "#protocol/envelope.ts";
import { AskAnswer } from "#protocol/messages.ts";
import { adminSubject, buckets, bucketStream, streams } from "#protocol/names.ts";
import { farmVersion } from "#protocol/version.ts";
import { publishProgress } from "#bus/job-log.ts";
import { request } from "#bus/rpc.ts";
import { readStream } from "#bus/stream-reader.ts";
import {
  agentNamed,
  buildRequest,
  built,
  chainNumber,
  failedWith,
  failures,
  flashed,
  installRequest,
  manifestOfBuild,
} from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

const secrets = { password: "ota-secret-1", encryptionKey: "api-secret-2" };

/** An install whose device has a password and an encryption key. */
function secretInstall(n: number): ChainRequest {
  const request = installRequest(n);
  const { password, encryptionKey } = secrets;
  const target = { ...request.upload!.target, password, api: { port: 6053, encryptionKey } };
  return { ...request, upload: { target } };
}

async function textOf(farm: ServedFarm, stream: string): Promise<string> {
  const texts: string[] = [];
  for await (const message of readStream(farm.user, stream)) texts.push(message.string());
  return texts.join("\n");
}

test("an install is built, then flashed with what was built, and goes to the history", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  expect(await farm.submit(installRequest(1))).toMatchObject({ chains: [chainNumber(1)], superseded: [] });

  const compile = await builder.next();
  expect(compile.dispatch).toMatchObject({ job: "compile", chain: chainNumber(1), attempt: 1 });
  expect(await compile.claim()).toEqual({ v: 1, verdict: "go" });
  expect((await farm.until("device 1", "compile", "running")).upload?.state).toBe("held");
  expect(flasher.deliveries).toBe(0);
  expect(await compile.report(built())).toEqual({ v: 1, verdict: "noted" });

  const upload = await flasher.next();
  expect(upload.dispatch).toMatchObject({ job: "upload", mode: "flash", manifest: manifestOfBuild("build") });
  expect(await upload.claim()).toMatchObject({ verdict: "go" });
  expect(await upload.claimFlash()).toMatchObject({ verdict: "go" });
  expect(await upload.claimFlash()).toMatchObject({ verdict: "go" });
  expect(await upload.report(flashed)).toMatchObject({ verdict: "noted" });

  await farm.untilArchived();
  const { live, ended } = await farm.ask("chains", { v: 1, kind: "chains", ended: 10 });
  expect(live).toEqual([]);
  expect(ended).toMatchObject([
    { id: chainNumber(1), compile: { state: "succeeded" }, upload: { state: "succeeded", outcome: flashed } },
  ]);
  const { devices } = await farm.ask("devices", { v: 1, kind: "devices" });
  expect(devices).toMatchObject([{ configuration: "device 1", state: "succeeded", address: "device-1.local:3232" }]);
  expect((await farm.chain("device 1.upload")).id).toBe(chainNumber(1));
});

test("a request that is repeated after its chain has gone to the history is accepted and starts nothing", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(buildRequest(1));
  const build = await builder.next();
  await build.claim();
  await build.report(built());
  await farm.untilArchived();

  expect(await farm.submit(buildRequest(1))).toEqual({ kind: "accepted", chains: [chainNumber(1)], superseded: [] });
  expect(await farm.status()).toMatchObject({ live: 0 });
  await farm.restartCoordinator();
  expect(await farm.submit(buildRequest(1))).toEqual({ kind: "accepted", chains: [chainNumber(1)], superseded: [] });
  expect(await farm.status()).toMatchObject({ live: 0 });
  await farm.submit(buildRequest(1), buildRequest(2));
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(2));
});

test("history, device record and live bucket hold no secret once the chain has ended, and no answer ever does", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  await farm.submit(secretInstall(1));
  const shown = JSON.stringify([
    await farm.ask("chains", { v: 1, kind: "chains", ended: 0 }),
    await farm.chain("device 1"),
    await farm.ask("explained", { v: 1, kind: "explain", reference: "device 1" }),
  ]);
  const compile = await builder.next();
  await compile.claim();
  await compile.report(built());
  const upload = await flasher.next();
  expect(upload.dispatch).toMatchObject({ target: { password: secrets.password } });
  await upload.claim();
  await upload.report(flashed);
  await farm.untilArchived();
  const kept = await Promise.all(Object.values(buckets).map((bucket) => textOf(farm, bucketStream(bucket))));
  const manager = await jetstreamManager(farm.user);
  await vi.waitFor(async () => expect((await manager.streams.info(streams.lanes)).state.messages).toBe(0), 5_000);
  expect(kept.join()).toContain("device-1.local");
  for (const text of [shown, ...kept]) {
    expect(text).not.toContain(secrets.password);
    expect(text).not.toContain(secrets.encryptionKey);
  }
});

test("a build that failed cancels its upload, and explain says why", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(installRequest(1));
  const compile = await builder.next();
  await compile.claim();
  await compile.report(failedWith(failures.final));
  await farm.untilArchived();
  const { lines } = await farm.ask("explained", { v: 1, kind: "explain", reference: "device 1" });
  expect(lines.join("\n")).toContain("the build failed (exit code 1)");
  expect(lines.join("\n")).toContain("cancelled: prerequisite-failed");
  expect((await farm.ask("devices", { v: 1, kind: "devices" })).devices).toEqual([]);
});

test("three hundred chains are one answer, and the queue's depth does not count held jobs", async () => {
  await using farm = await ServedFarm.start();
  const requests = Array.from({ length: 300 }, (_, index) => installRequest(index));
  const { chains } = await farm.submit(...requests);
  expect(chains).toEqual(requests.map(({ id }) => id));
  expect(await farm.status()).toMatchObject({ live: 300, queueDepth: 300, version: farmVersion });
  // Asked twice is asked once.
  await farm.submit(...requests);
  expect(await farm.status()).toMatchObject({ live: 300, queueDepth: 300 });
});

test("what waits is explained, and goes to the agent that appears", async () => {
  await using farm = await ServedFarm.start();
  await farm.submit(buildRequest(1), buildRequest(2));
  const explain = async () => {
    const { lines } = await farm.ask("explained", { v: 1, kind: "explain", reference: "device 2" });
    return lines.join("\n");
  };
  expect(await explain()).toContain("no agent has announced itself");
  expect(await farm.status()).toMatchObject({ queueDepth: 2 });
  const builder = await farm.agent("compile", "builder");
  const job = await builder.next();
  expect(job.dispatch.chain).toBe(chainNumber(1));
  expect(await farm.status()).toMatchObject({ queueDepth: 1 });
  expect(await explain()).toContain("builder is busy (1 of 1 slots");
  const { agents } = await farm.ask("agents", { v: 1, kind: "agents" });
  expect(agents).toMatchObject([{ announcement: { agent: "builder" }, busy: 1, online: true }]);
  await job.claim();
  await job.report(built());
  expect((await builder.next()).dispatch.chain).toBe(chainNumber(2));
});

test("progress of the running job is shown and never stored", async () => {
  await using farm = await ServedFarm.start();
  const builder = await farm.agent("compile", "builder");
  await farm.submit(buildRequest(1));
  await (await builder.next()).claim();
  const progress = { v: 1 as const, phase: "compiling", percent: 40 };
  publishProgress(farm.user, agentNamed("builder"), chainNumber(1), "compile", progress);
  await vi.waitFor(async () => {
    const { live } = await farm.ask("chains", { v: 1, kind: "chains", ended: 0 });
    expect(live[0]?.progress).toEqual(progress);
  }, 5_000);
  expect(await textOf(farm, bucketStream(buckets.chains))).not.toContain("compiling");
});

test("what cannot be decoded or does not exist is refused with words", async () => {
  await using farm = await ServedFarm.start();
  const raw = async (message: unknown) => request(farm.user, adminSubject, message, AdminAnswer, 2_000);
  expect(await raw({ v: 9 })).toMatchObject({ kind: "refused", code: "not-understood" });
  const reply = await farm.user.request(adminSubject, "no json at all", { timeout: 2_000 });
  expect(reply.string()).toContain("the request is invalid");
  const half = await raw({ v: 1, kind: "submit", chains: [{ ...installRequest(1), build: undefined }] });
  expect(half).toMatchObject({
    kind: "refused",
    code: "chain-incomplete",
    message: expect.stringContaining("device 1"),
  });
  expect(await raw({ v: 1, kind: "cancel", of: { reference: "nobody" } })).toMatchObject({
    kind: "refused",
    code: "not-found",
  });
  const nonsense = await request(farm.user, "fy.ask.builder", { v: 1, kind: "dance" }, AskAnswer, 2_000);
  expect(nonsense).toMatchObject({ verdict: "drop", reason: "the message cannot be decoded" });
  const noName = await farm.user.request("fy.ask.NoName", encode({}), { timeout: 2_000 });
  expect(noName.string()).toContain("drop");
  expect(await farm.status()).toMatchObject({ live: 0 });
});
