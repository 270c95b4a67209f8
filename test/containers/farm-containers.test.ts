/** The images of deploy/ as a farm. What is believed of a flash comes from the devices: their own record, and the program that they run. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ContainerFarm } from "#test/support/container-farm.ts";
import type { RealDevice } from "#test/support/real-device.ts";

let farm: ContainerFarm;
let lamp: RealDevice;

beforeAll(async () => {
  farm = await ContainerFarm.start(1);
  await farm.startCoordinator("c1");
  await Promise.all([farm.startAgent("build-1", "compile"), farm.startAgent("flash-1", "upload")]);
  lamp = await farm.device("lamp");
});
afterAll(() => farm?.[Symbol.asyncDispose]());

test("a farm of containers builds and flashes a device", async () => {
  const install = await farm.install(lamp, { edition: 1 });
  const { code, out, err } = await install.end();
  expect(code, `${out}${err}`).toBe(0);
  expect(await lamp.runs()).toBe(1);
  expect(lamp.flashes()).toHaveLength(1);
});
