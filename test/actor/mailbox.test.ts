import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { Mailbox } from "#actor/mailbox.ts";

const never = new AbortController().signal;

test("everything that waits comes at once, in its order, and at most as much as was asked for", async () => {
  const mailbox = new Mailbox<number>(10);
  for (const item of [1, 2, 3, 4]) mailbox.post(item);
  expect(await mailbox.take(3, never)).toEqual([1, 2, 3]);
  expect(await mailbox.take(3, never)).toEqual([4]);
});

test("a take waits for the first item", async () => {
  const mailbox = new Mailbox<string>(10);
  const taken = mailbox.take(10, never);
  mailbox.post("a");
  mailbox.post("b");
  expect(await taken).toEqual(["a", "b"]);
});

test("a full mailbox refuses, keeps what it has, and takes again once there is room", async () => {
  const mailbox = new Mailbox<number>(2);
  expect([mailbox.post(1), mailbox.post(2), mailbox.post(3)]).toEqual([true, true, false]);
  expect(await mailbox.take(1, never)).toEqual([1]);
  expect(mailbox.post(4)).toBe(true);
  expect(await mailbox.take(9, never)).toEqual([2, 4]);
});

test("a signal ends the wait with nothing, also one that has fired before", async () => {
  const mailbox = new Mailbox<number>(2);
  const abort = new AbortController();
  const taken = mailbox.take(1, abort.signal);
  abort.abort();
  expect(await taken).toEqual([]);
  expect(await mailbox.take(1, abort.signal)).toEqual([]);
});

test("takes leave no listener behind on a signal that lives on", async () => {
  const mailbox = new Mailbox<number>(2);
  const abort = new AbortController();
  for (let item = 0; item < 50; item++) {
    const taken = mailbox.take(1, abort.signal);
    mailbox.post(item);
    expect(await taken).toEqual([item]);
  }
  expect(getEventListeners(abort.signal, "abort")).toHaveLength(0);
});
