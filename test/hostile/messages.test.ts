/** Hostile messages to a real coordinator over a real nats-server: each gets a clear answer, and what runs meanwhile ends well. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdminAnswer } from "#protocol/admin.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { AskAnswer } from "#protocol/messages.ts";
import {
  adminSubject,
  askSubject,
  buckets,
  keySubject,
  laneSubject,
  sightingSubject,
  stopSubject,
} from "#protocol/names.ts";
import { agentNamed, bootNumber, built, chainNumber, flashed, installRequest } from "#test/support/farm-builders.ts";
import { ServedFarm } from "#test/support/served-farm.ts";

const text = (json: string) => Buffer.from(json);
const claim = { v: 1, kind: "claim", boot: bootNumber(1), chain: chainNumber(1), job: "compile", attempt: 1 };
const submit = (count: number) => ({
  v: 1,
  kind: "submit",
  chains: Array.from({ length: count }, (_, index) => installRequest(10 + index)),
});
const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;

/** What cannot be a message of any kind. */
const garbage: readonly (readonly [name: string, bytes: Uint8Array])[] = [
  ["nothing", new Uint8Array()],
  ["bytes that are no text", Buffer.from([0xff, 0x00, 0xfe])],
  ["half of a text", text('{"v":1,"kind":"st')],
  ["a list", text("[]")],
  ["a number beyond all", text("1e999")],
  ["100,000 lists within one another", text(deep)],
  ["a deep list in a field", text(`{"v":1,"kind":"resolve","reference":${deep}}`)],
  ["no version", encode({ ...claim, v: undefined })],
  ["a version of tomorrow", encode({ ...claim, v: 2 })],
  ["a kind of the prototype", text('{"v":1,"kind":"__proto__"}')],
  ["a kind that every object has", text('{"v":1,"kind":"constructor"}')],
  ["a kind that is an object", text('{"v":1,"kind":{"toString":1}}')],
  ["7 MiB of zeros", Buffer.alloc(7 * 1024 * 1024)],
  ["7 MiB of text", text(`{"v":1,"kind":"resolve","reference":"${"x".repeat(7 * 1024 * 1024)}"}`)],
];

const requests: readonly (readonly [name: string, request: object, code: string])[] = [
  ["10,000 chains", submit(10_000), "not-understood"],
  ["no chains", submit(0), "not-understood"],
  ["a wildcard as an agent", { v: 1, kind: "drain", agent: "*", isDrained: true }, "not-understood"],
  ["all that follows as an agent", { v: 1, kind: "drain", agent: ">", isDrained: true }, "not-understood"],
  ["a subject as an agent", { v: 1, kind: "drain", agent: "fy.compile.x", isDrained: true }, "not-understood"],
  ["an agent that is not there", { v: 1, kind: "drain", agent: "nobody", isDrained: true }, "not-found"],
  ["a path as a configuration", { v: 1, kind: "forget-device", configuration: "../../etc/passwd" }, "not-understood"],
  ["a command as a configuration", { v: 1, kind: "forget-device", configuration: "$(reboot)" }, "not-understood"],
  ["an option as a configuration", { v: 1, kind: "forget-device", configuration: "-rf" }, "not-understood"],
  ["two lines as a configuration", { v: 1, kind: "forget-device", configuration: "a\r\nb" }, "not-understood"],
  ["a text that turns around", { v: 1, kind: "forget-device", configuration: "a\u202eb" }, "not-understood"],
  [
    "10,000 letters as a configuration",
    { v: 1, kind: "forget-device", configuration: "a".repeat(10_000) },
    "not-understood",
  ],
  ["a path as a chain", { v: 1, kind: "rollouts", id: "../../x" }, "not-understood"],
  ["a wildcard as a reference", { v: 1, kind: "cancel", of: { reference: "*" } }, "not-found"],
  ["a prototype as a reference", { v: 1, kind: "resolve", reference: "__proto__" }, "not-found"],
];

const boot = bootNumber(1);
const foreign: readonly (readonly [name: string, agent: string, ask: object])[] = [
  ["a claim of a chain that is not there", "builder", { ...claim, chain: chainNumber(30) }],
  ["a claim of another agent's job", "stranger", claim],
  ["a claim from another life", "builder", { ...claim, boot: bootNumber(9) }],
  ["a claim of an attempt to come", "builder", { ...claim, attempt: 2 }],
  ["a flash claim of a job that is held", "flasher", { ...claim, kind: "flash-claim", job: "upload" }],
  ["a report of another agent's job", "stranger", { ...claim, kind: "report", result: built() }],
  ["a report of an attempt to come", "builder", { ...claim, attempt: 2, kind: "report", result: built() }],
  [
    "a report of a flash that never was",
    "flasher",
    { v: 1, kind: "report", boot, chain: chainNumber(1), job: "upload", attempt: 1, result: flashed },
  ],
];

let farm: ServedFarm;
beforeAll(async () => {
  farm = await ServedFarm.start();
});
afterAll(() => farm[Symbol.asyncDispose]());

const asked = async (subject: string, bytes: Uint8Array) =>
  (await farm.user.request(subject, bytes, { timeout: 8_000 })).data;

describe.each(garbage)("%s", (_name, bytes) => {
  test("as a request of a user is refused in words", async () => {
    const answer = decode(AdminAnswer, await asked(adminSubject, bytes));
    expect(answer).toMatchObject({ ok: true, value: { kind: "refused", code: "not-understood" } });
    expect((await asked(adminSubject, bytes)).length).toBeLessThan(1_000);
  });

  test("as a claim is dropped, and in every other place passed over", async () => {
    const answer = decode(AskAnswer, await asked(askSubject(agentNamed("builder")), bytes));
    expect(answer).toMatchObject({ ok: true, value: { verdict: "drop" } });
    const nobody = agentNamed("nobody");
    for (const subject of [keySubject(buckets.presence, "nobody"), sightingSubject(nobody), stopSubject(nobody)]) {
      farm.user.publish(subject, bytes);
    }
    // Without an inbox for the answer.
    farm.user.publish(adminSubject, bytes);
    farm.user.publish(askSubject(nobody), bytes);
    farm.user.publish("fy.progress.a.b.c", bytes);
    expect(await farm.status()).toMatchObject({ live: 0 });
  });
});

test.each(requests)("a request with %s is refused", async (_name, request, code) => {
  const answer = decode(AdminAnswer, await asked(adminSubject, encode(request)));
  expect(answer).toMatchObject({ ok: true, value: { kind: "refused", code } });
});

test("an install goes its way among forged claims, reports, orders and jobs", async () => {
  const builder = await farm.agent("compile", "builder");
  const flasher = await farm.agent("upload", "flasher");
  await farm.untilKnown("flasher");
  await farm.submit(installRequest(1));
  // A stranger writes into the lane; an agent takes what the coordinator says is its own.
  for (const bytes of garbage.map(([, some]) => some))
    farm.user.publish(laneSubject("compile", agentNamed("builder")), bytes);
  const compile = await builder.next();
  expect(await compile.claim()).toMatchObject({ verdict: "go" });
  for (const [name, agent, ask] of foreign) {
    const answer = decode(AskAnswer, await asked(askSubject(agentNamed(agent)), encode(ask)));
    expect([name, answer]).toMatchObject([
      name,
      { ok: true, value: { verdict: /report/.test(name) ? "noted" : "drop" } },
    ]);
    const chain = await farm.chain("device 1");
    expect([name, chain.compile?.state, chain.upload?.state]).toEqual([name, "running", "held"]);
  }
  const { dispatch } = compile;
  farm.user.publish(laneSubject("compile", agentNamed("builder")), encode({ ...dispatch, chain: chainNumber(31) }));
  expect(await (await builder.next()).claim()).toMatchObject({ verdict: "drop" });
  expect(await compile.report(built())).toMatchObject({ verdict: "noted" });
  // The same once more, and what it was before.
  expect(await compile.report(built("another"))).toMatchObject({ verdict: "noted" });
  expect(await compile.claim()).toMatchObject({ verdict: "drop" });
  const upload = await flasher.next();
  await upload.claim();
  expect(await upload.claimFlash()).toMatchObject({ verdict: "go" });
  expect(await upload.report(flashed)).toMatchObject({ verdict: "noted" });
  expect(await upload.claimFlash()).toMatchObject({ verdict: "drop" });
  const { upload: ended } = await farm.until("device 1", "upload", "succeeded");
  expect(ended?.attempt).toBe(1);
});
