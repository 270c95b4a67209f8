import { jetstreamManager } from "@nats-io/jetstream";
import { TimeoutError } from "@nats-io/nats-core";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { systemClock } from "#actor/clock.ts";
import type { Connection } from "#bus/connection.ts";
import { CoordinatorLease } from "#bus/coordinator-lease.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { leadTtlMs } from "#protocol/limits.ts";
import { buckets, bucketStream, keySubject, leaseKey } from "#protocol/names.ts";
import { bootNumber } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const stream = bucketStream(buckets.lease);
const subject = keySubject(buckets.lease, leaseKey);
/** The lease of these tests, so that they need not wait for five seconds each. */
const shortTtlMs = 1_000;
/** A server looks for what has expired when it is due, and a busy one a little later. */
const expiresWithin = { timeout: shortTtlMs + 3_000, interval: 50 };

let server: TestServer;
let connection: Connection;
let first: CoordinatorLease;
let second: CoordinatorLease;

function leaseOver(link: Connection, n: number): CoordinatorLease {
  return new CoordinatorLease(link, systemClock, { holder: bootNumber(n), host: `host-${n}`, pid: n });
}

beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  await declareTopology(connection);
  const { streams } = await jetstreamManager(connection);
  await streams.update(stream, { max_age: shortTtlMs * 1_000_000, duplicate_window: shortTtlMs * 1_000_000 });
  await streams.purge(stream);
  first = leaseOver(await server.connect(), 1);
  second = leaseOver(await server.connect(), 2);
});

/** A connection whose next writes of the lease land, and whose answers do not come. */
function deaf(link: Connection): { readonly link: Connection; lost: number } {
  const state = { link, lost: 0 };
  state.link = new Proxy(link, {
    get(target, name: keyof Connection) {
      if (name !== "request") {
        const value: unknown = target[name];
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      }
      return async (...asked: Parameters<Connection["request"]>) => {
        const answer = await target.request(...asked);
        if (asked[0] !== subject || state.lost === 0) return answer;
        state.lost -= 1;
        throw new TimeoutError();
      };
    },
  });
  return state;
}

test("of two that ask at once one gets it, and both know who", async () => {
  const taken = await Promise.all([first.take(), second.take()]);
  expect(taken.filter(Boolean)).toHaveLength(1);
  const n = taken[0] ? 1 : 2;
  const holder = { v: 1, holder: bootNumber(n), host: `host-${n}`, pid: n, since: expect.any(Number) };
  expect([await first.holder(), await second.holder()]).toEqual([holder, holder]);
});

test("nobody holds it before somebody has taken it, and nobody who has not can renew it", async () => {
  expect(await first.holder()).toBeUndefined();
  expect(await first.renew()).toBe(false);
  await second.take();
  expect(await first.renew()).toBe(false);
});

test("who renews keeps it past its time; who does not loses it, and cannot renew any more", async () => {
  await first.take();
  const takenAt = systemClock.monotonic();
  const { since } = (await first.holder())!;
  await vi.waitFor(async () => {
    expect([await first.renew(), await second.take()]).toEqual([true, false]);
    expect(systemClock.monotonic() - takenAt).toBeGreaterThan(2 * shortTtlMs);
  }, expiresWithin);
  expect((await first.holder())?.since).toBe(since);
  const renewedAt = systemClock.monotonic();
  await vi.waitFor(async () => expect(await second.take()).toBe(true), expiresWithin);
  expect(systemClock.monotonic() - renewedAt).toBeGreaterThan(shortTtlMs - 100);
  expect(await first.renew()).toBe(false);
  expect(await first.take()).toBe(false);
  expect(await second.renew()).toBe(true);
});

test("one that has expired cannot be renewed, also when nobody else has taken it, but taken", async () => {
  await first.take();
  await vi.waitFor(async () => expect(await second.holder()).toBeUndefined(), expiresWithin);
  expect(await first.renew()).toBe(false);
  expect(await first.take()).toBe(true);
});

test("one that is given up is free at once; what somebody else holds cannot be given up", async () => {
  await first.take();
  await first.renew();
  await second.release();
  expect(await second.take()).toBe(false);
  await first.release();
  expect(await first.holder()).toBeUndefined();
  expect(await first.renew()).toBe(false);
  expect(await second.take()).toBe(true);
  await first.release();
  expect(await second.renew()).toBe(true);
});

test("a restart of the server loses it; the first one that asks makes the bucket again", async () => {
  await first.take();
  await server.kill();
  await server.restart();
  expect(await second.take()).toBe(true);
  expect(await second.holder()).toMatchObject({ holder: bootNumber(2) });
  const { config } = await (await jetstreamManager(connection)).streams.info(stream);
  expect(config).toMatchObject({ storage: "memory", max_age: leadTtlMs * 1_000_000, max_msgs_per_subject: 1 });
});

test("invariant 1: after a restart of the server a write with the same sequence is not taken for the own one", async () => {
  await (await jetstreamManager(connection)).streams.delete(stream);
  await first.take();
  await server.kill();
  await server.restart();
  await second.take();
  const message = await (await jetstreamManager(connection)).streams.getMessage(stream, { last_by_subj: subject });
  expect(message?.seq).toBe(1);
  expect(await first.renew()).toBe(false);
  expect(await second.renew()).toBe(true);
});

test("after a restart of the server it cannot be renewed, but taken by whoever held it", async () => {
  await first.take();
  await server.kill();
  await server.restart();
  expect(await first.renew()).toBe(false);
  expect(await first.take()).toBe(true);
  expect(await second.take()).toBe(false);
});

test("invariant 2: a write that landed without an answer is known again, and made again", async () => {
  const state = deaf(await server.connect());
  const lease = leaseOver(state.link, 3);
  state.lost = 1;
  await expect(lease.take()).rejects.toThrow(UnavailableError);
  const landed = await (await jetstreamManager(connection)).streams.getMessage(stream, { last_by_subj: subject });
  expect(await lease.take()).toBe(true);
  const again = await (await jetstreamManager(connection)).streams.getMessage(stream, { last_by_subj: subject });
  expect(again!.seq).toBeGreaterThan(landed!.seq);
  state.lost = 1;
  await expect(lease.renew()).rejects.toThrow(UnavailableError);
  expect(await lease.renew()).toBe(true);
  expect(await first.take()).toBe(false);
});

test("a lease that was taken without an answer is given up all the same", async () => {
  const state = deaf(await server.connect());
  const lease = leaseOver(state.link, 3);
  state.lost = 1;
  await expect(lease.take()).rejects.toThrow(UnavailableError);
  await lease.release();
  expect(await first.take()).toBe(true);
});

test("a value that cannot be decoded keeps everybody away until it expires", async () => {
  await connection.request(subject, "nonsense");
  expect(await first.take()).toBe(false);
  expect(await first.holder()).toBeUndefined();
  await vi.waitFor(async () => expect(await first.take()).toBe(true), expiresWithin);
});

test("a server that refuses what nobody holds is as good as away", async () => {
  const { streams } = await jetstreamManager(connection);
  await streams.update(stream, { max_msg_size: 10 });
  await expect(first.take()).rejects.toThrow(UnavailableError);
  await streams.update(stream, { max_msg_size: -1 });
  expect(await first.take()).toBe(true);
});

test("without a server nobody takes, renews or gives up anything", async () => {
  const cut = await server.connect();
  const lease = leaseOver(cut, 3);
  await lease.take();
  await cut.close();
  for (const ask of [() => lease.take(), () => lease.renew(), () => lease.release(), () => lease.holder()]) {
    await expect(ask()).rejects.toThrow(UnavailableError);
  }
});
