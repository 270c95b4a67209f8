import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { Bucket } from "#bus/bucket.ts";
import type { Connection } from "#bus/connection.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { buckets, keySubject } from "#protocol/names.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const Note = z.object({ text: z.string() });
let server: TestServer;
let connection: Connection;
let bucket: Bucket<typeof Note>;

beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
  bucket = new Bucket(connection, buckets.devices, Note);
});
afterAll(() => server[Symbol.asyncDispose]());

const put = (into: Bucket<typeof Note>, key: string, note: z.infer<typeof Note>) => into.putAll(new Map([[key, note]]));
const noted = (texts: readonly string[]) => texts.map((text) => ({ text }));

test("a value is there under its key until the next one replaces it", async () => {
  expect(await bucket.get("a")).toBeUndefined();
  await put(bucket, "a", { text: "first" });
  await put(bucket, "a", { text: "second" });
  expect(await bucket.get("a")).toEqual({ text: "second" });
});

test("the newest writes come first; a key that was written long ago is in the whole only", async () => {
  const own = new Bucket(connection, buckets.history, Note);
  expect(await own.all()).toEqual([]);
  for (const key of ["a", "b", "c"]) await put(own, key, { text: key });
  for (let i = 0; i < 5; i++) await put(own, "b", { text: `b${i}` });
  expect(await own.newest(3)).toEqual(noted(["b4"]));
  expect(await own.newest(6)).toEqual(noted(["b4", "c"]));
  expect(await own.newest(0)).toEqual([]);
  expect(await own.all()).toEqual(noted(["b4", "c", "a"]));
});

test("what cannot be decoded is passed over", async () => {
  await connection.request(keySubject(buckets.devices, "broken"), "not json");
  await put(bucket, "whole", { text: "whole" });
  expect(await bucket.get("broken")).toBeUndefined();
  expect(await bucket.all()).toContainEqual({ text: "whole" });
});

test("without a server, or without such a bucket, it is unavailable", async () => {
  const cut = await server.connect();
  await cut.close();
  const gone = new Bucket(cut, buckets.devices, Note);
  const missing = new Bucket(connection, "fy_nothing", Note);
  for (const work of [
    gone.get("a"),
    put(gone, "a", { text: "" }),
    gone.all(),
    put(missing, "a", { text: "" }),
    missing.all(),
  ]) {
    await expect(work).rejects.toThrow(UnavailableError);
  }
});
