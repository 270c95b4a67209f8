/** Images that are fetched before their flash, from a store in the test's hands. */
import { expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import type { ObjectStore, Transfer } from "#bus/object-store.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";
import type { ImageAhead } from "#protocol/messages.ts";
import { aheadBytesOf, ImagesAhead } from "#upload-agent/images-ahead.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { digestNumber } from "#test/support/farm-builders.ts";

type Got = Awaited<ReturnType<ObjectStore["get"]>>;

interface Asked {
  readonly digest: Digest;
  readonly transfer: Transfer;
  /** Lets the store answer. */
  readonly bring: (got: Got) => void;
  readonly fail: (error: Error) => void;
}

function bench(bytesMax = 1_000) {
  const asked = new Arrivals<Asked>("question to the store");
  const get: ObjectStore["get"] = (digest, transfer) => {
    const { promise, resolve, reject } = Promise.withResolvers<Got>();
    asked.push({ digest, transfer: transfer ?? {}, bring: resolve, fail: reject });
    return promise;
  };
  return { asked, images: new ImagesAhead({ get }, systemClock, bytesMax) };
}

const image = (n: number, bytes = 100): ImageAhead => ({ digest: digestNumber(n), bytes });
const content = (n: number): Got => ({ ok: true, bytes: Buffer.from(`image ${n}`) });
const numbersOf = ({ all }: Arrivals<Asked>) => all.map(({ digest }) => Number.parseInt(digest, 16));
const away = new UnavailableError("no-answer", "the store has no leader");

test("what is hinted is fetched one after the other, and each job that asks has its image at once", async () => {
  const { asked, images } = bench();
  images.hint([image(1), image(2)]);
  for (const n of [1, 2]) {
    (await asked.next()).bring(content(n));
    expect(numbersOf(asked)).toHaveLength(n);
  }
  images.hint([image(2), image(1), image(3)]);
  await asked.next();
  expect(await images.get(digestNumber(1))).toEqual(content(1));
  expect(await images.get(digestNumber(2))).toEqual(content(2));
  expect(numbersOf(asked)).toEqual([1, 2, 3]);
});

test("an image that was used is forgotten: whoever asks again asks the store", async () => {
  const { asked, images } = bench();
  images.hint([image(1), image(2)]);
  (await asked.next()).bring(content(1));
  await asked.next();
  await images.get(digestNumber(1));
  const again = images.get(digestNumber(1));
  (await asked.next()).bring(content(1));
  expect(await again).toEqual(content(1));
});

test("a job whose image is on its way waits for that, and hears how far it is", async () => {
  const { asked, images } = bench();
  images.hint([image(1)]);
  const fetching = await asked.next();
  let chunks = 0;
  const got = images.get(digestNumber(1), { onChunk: () => (chunks += 1) });
  fetching.transfer.onChunk?.();
  expect(chunks).toBe(1);
  fetching.bring(content(1));
  expect(await got).toEqual(content(1));
  expect(numbersOf(asked)).toEqual([1]);
});

test("while a job fetches its image nothing is fetched ahead, and what was begun begins again after that", async () => {
  const { asked, images } = bench();
  images.hint([image(1)]);
  const ahead = await asked.next();
  const job = images.get(digestNumber(2));
  const fetching = await asked.next();
  expect([ahead.transfer.signal?.aborted, fetching.transfer.signal?.aborted]).toEqual([true, undefined]);
  ahead.fail(away);
  images.hint([image(3), image(1)]);
  expect(numbersOf(asked)).toEqual([1, 2]);
  fetching.bring(content(2));
  await job;
  (await asked.next()).bring(content(3));
  await asked.next();
  expect(numbersOf(asked)).toEqual([1, 2, 3, 1]);
});

test("the image that one job waits for is not called off by another one", async () => {
  const { asked, images } = bench();
  images.hint([image(1), image(2)]);
  const first = await asked.next();
  const [one, other] = [images.get(digestNumber(1)), images.get(digestNumber(3))];
  (await asked.next()).bring(content(3));
  await other;
  expect(first.transfer.signal?.aborted).toBe(false);
  first.bring(content(1));
  expect(await one).toEqual(content(1));
});

test("a job that is called off leaves nothing on its way", async () => {
  const { asked, images } = bench();
  images.hint([image(1)]);
  const fetching = await asked.next();
  const stop = new AbortController();
  const job = images.get(digestNumber(1), { signal: stop.signal });
  stop.abort();
  const own = await asked.next();
  expect([fetching.transfer.signal?.aborted, own.transfer.signal]).toEqual([true, stop.signal]);
  own.fail(away);
  await expect(job).rejects.toBe(away);
  expect(numbersOf(asked)).toEqual([1, 1]);
});

test("a newer hint takes the place of the former, on its way or here", async () => {
  const { asked, images } = bench();
  images.hint([image(1), image(2)]);
  (await asked.next()).bring(content(1));
  const second = await asked.next();
  images.hint([image(3)]);
  expect(second.transfer.signal?.aborted).toBe(true);
  (await asked.next()).bring(content(3));
  const first = images.get(digestNumber(1));
  (await asked.next()).bring(content(1));
  await first;
  expect(numbersOf(asked)).toEqual([1, 2, 3, 1]);
});

test("no more is fetched ahead than the limit allows, nor what would come behind it", async () => {
  const { asked, images } = bench(250);
  images.hint([image(1), image(1), image(2), image(3), image(4, 10)]);
  for (const n of [1, 2]) (await asked.next()).bring(content(n));
  const third = images.get(digestNumber(3));
  (await asked.next()).bring(content(3));
  await third;
  expect(numbersOf(asked)).toEqual([1, 2, 3]);
  expect([aheadBytesOf(512 * 2 ** 20), aheadBytesOf(2 ** 40)]).toEqual([64 * 2 ** 20, 128 * 2 ** 20]);
});

test("a hint that cannot be followed is nobody's matter: the job asks the store and hears its word", async () => {
  const { asked, images } = bench();
  images.hint([image(1), image(2), image(3)]);
  (await asked.next()).fail(away);
  (await asked.next()).bring({ ok: false, found: "missing" });
  const third = await asked.next();
  const job = images.get(digestNumber(3));
  third.bring({ ok: false, found: "corrupt" });
  expect(await job).toEqual({ ok: false, found: "corrupt" });
  const first = images.get(digestNumber(1));
  (await asked.next()).fail(away);
  await expect(first).rejects.toBe(away);
  expect(numbersOf(asked)).toEqual([1, 2, 3, 1]);
});
