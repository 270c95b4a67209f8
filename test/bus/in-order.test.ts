import { expect, test } from "vitest";
import { inOrder, Pace } from "#bus/in-order.ts";
import { SteppedClock } from "#test/support/stepped-clock.ts";

test("so many at a time are under way, and results come in the order of the items", async () => {
  let [underWay, most] = [0, 0];
  const work = async (item: number) => {
    underWay += 1;
    most = Math.max(most, underWay);
    // Later items are done sooner.
    for (let turn = 0; turn < 10 - item; turn += 1) await Promise.resolve();
    underWay -= 1;
    return item;
  };
  const results: number[] = [];
  for await (const result of inOrder([0, 1, 2, 3, 4], () => 2, work)) results.push(result);
  expect(results).toEqual([0, 1, 2, 3, 4]);
  expect(most).toBe(2);
});

test("the first failure ends it, and no later one is heard of", async () => {
  const work = async (item: number) => {
    if (item > 0) throw new TypeError(`item ${item}`);
    return item;
  };
  const results: number[] = [];
  const all = (async () => {
    for await (const result of inOrder([0, 1, 2, 3], () => 3, work)) results.push(result);
  })();
  await expect(all).rejects.toThrow("item 1");
  expect(results).toEqual([0]);
});

test("nothing gives nothing", async () => {
  const results: unknown[] = [];
  for await (const result of inOrder(
    [],
    () => 1,
    () => "x",
  ))
    results.push(result);
  expect(results).toEqual([]);
});

test("more is under way while answers come in time, and less on a slow line", async () => {
  const clock = new SteppedClock();
  const pace = new Pace(clock, 8);
  const answerAfter = async (ms: number) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const asked = pace.time(promise);
    clock.pass(ms);
    resolve();
    await asked;
    return pace.width;
  };
  expect(pace.width).toBe(2);
  for (const width of [3, 4, 5, 6, 7, 8, 8]) expect(await answerAfter(10)).toBe(width);
  for (const width of [4, 2, 1, 1]) expect(await answerAfter(3_000)).toBe(width);
  expect(await answerAfter(900)).toBe(2);
});
