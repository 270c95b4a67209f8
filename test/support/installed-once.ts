/** What an install promises, by what the device itself has seen and runs. */
import { expect } from "vitest";
import type { RealDevice } from "#test/support/real-device.ts";
import type { Cli } from "#test/support/real-farm.ts";

/** The request succeeded by exactly one flash after `before` others, and is reported as what the device says. */
export async function expectInstalledOnce(
  install: Cli,
  device: RealDevice,
  { edition, before }: { readonly edition: number; readonly before: number },
): Promise<void> {
  const { code, out, err } = await install.end();
  expect(code, `${out}${err}`).toBe(0);
  expect(await device.runs()).toBe(edition);
  expect(device.flashes()).toHaveLength(before + 1);
  expect(device.flashes().at(-1)).toMatchObject({ committed: true, imageDigest: await device.flashDigest() });
  expect(install.last("upload").outcome?.report?.compilationTime).toBe((await device.report())?.compilationTime);
}
