/** The images of deploy/ as a farm with one NATS server, and what the loss of that server costs. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ContainerFarm } from "#test/support/container-farm.ts";
import { expectInstalledOnce } from "#test/support/installed-once.ts";
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

test("a device is built and flashed by containers, over a server that is killed in the middle and comes back with its store", async () => {
  const install = await farm.install(lamp, { edition: 1 });
  await install.event({ kind: "job", job: "compile", state: "running" });
  await farm.kill("n1");
  await farm.startAgain("n1");
  await expectInstalledOnce(install, lamp, { edition: 1, before: 0 });
});

test("each part ends at SIGTERM, by itself", async () => {
  for (const name of ["flash-1", "build-1", "c1", "n1"]) expect(await farm.stop(name), name).toBeLessThan(128);
});
