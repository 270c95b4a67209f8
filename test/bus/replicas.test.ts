import { expect, test } from "vitest";
import { replicasFor, replicaWish } from "#bus/replicas.ts";

test("left alone, a cluster has three replicas, and a server that is by itself what it has", () => {
  expect(replicasFor("auto", true)).toBe(3);
  expect(replicasFor("auto", false)).toBe(1);
  expect(replicasFor("auto", true, 1)).toBe(3);
});

test("only a person lowers them", () => {
  expect(replicasFor("auto", true, 5)).toBe(5);
  expect(replicasFor("auto", false, 3)).toBe(3);
  expect(replicasFor(1, true, 3)).toBe(1);
});

test("what is no such number is refused with what is allowed", () => {
  expect(["", undefined, "auto", "1", "3", "5"].map(replicaWish)).toEqual(["auto", "auto", "auto", 1, 3, 5]);
  expect(() => replicaWish("2")).toThrow('FLASHYARD_REPLICAS is "2", and must be auto, 1, 3 or 5');
});
