/** Every mode in which a device of any age takes an update. */
import { describe, expect, it } from "vitest";
import { imageBytesMax } from "#protocol/artifact.ts";
import { imageOf } from "#simulator/device-image.ts";
import { type DeviceOptions, SimulatedDevice } from "#simulator/device.ts";
import { flash, newBuild, newImage, oldBuild, password, targetOf } from "#test/support/simulated-flash.ts";

type Features = Pick<DeviceOptions, "extended" | "compression">;

const versions = [1, 2];
const passwords = ["none", "md5", "sha256"] as const;
const features: readonly Features[] = [
  { extended: true, compression: "none" },
  { extended: true, compression: "gzip" },
  { extended: true, compression: "deflate" },
  { extended: false, compression: "none" },
  { extended: false, compression: "gzip" },
];
const modes = versions.flatMap((version) =>
  passwords.flatMap((method) =>
    features.flatMap(({ extended, compression }) =>
      [false, true].map((drips) => ({ version, method, extended, compression, drips })),
    ),
  ),
);

describe("a flash over the air", () => {
  it.each(modes)(
    "reaches a device of version $version, password $method, extended $extended, compression $compression, drips $drips",
    async ({ version, method, extended, compression, drips }) => {
      await using device = await SimulatedDevice.start({
        build: oldBuild,
        version,
        drips,
        ...(method === "none" ? {} : { password: { method, text: password } }),
        extended: extended ?? true,
        compression: compression ?? "none",
      });
      const { result, events } = await flash(targetOf(device));
      await device.settled();

      expect(result).toMatchObject({ ok: true, level: "committed", compression });
      expect(Buffer.compare(device.image!, newImage)).toBe(0);
      expect(device.build).toEqual(newBuild);
      expect(events).toContainEqual({
        kind: "negotiated",
        version,
        compression,
        authentication: method,
        encrypted: false,
      });
      const sent = events.filter((event) => event.kind === "progress").map((event) => event.sentBytes);
      expect(sent).toEqual(sent.toSorted((a, b) => a - b));
      expect(sent.at(-1)).toBe(result.ok && result.wireBytes);
      expect(device.sessions).toHaveLength(1);
    },
  );

  it("tells its phases in their order", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const { events } = await flash(targetOf(device));
    expect(events.filter((event) => event.kind === "phase").map((event) => event.phase)).toEqual([
      "connecting",
      "negotiating",
      "authenticating",
      "preparing",
      "sending",
      "committing",
    ]);
  });

  it.each([1, 8191, 8192, 8193, 16_384].map((extra) => 200 + extra))(
    "gets every block acknowledged of an image of %i bytes",
    async (bytes) => {
      await using device = await SimulatedDevice.start({ build: oldBuild });
      const { result } = await flash(targetOf(device), { image: imageOf(newBuild, bytes) });
      await device.settled();
      expect(result).toMatchObject({ ok: true, wireBytes: bytes });
      expect(device.build).toEqual(newBuild);
    },
  );

  it.each([0, imageBytesMax + 1])("refuses an image of %i bytes before it connects", async (bytes) => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const { result } = await flash(targetOf(device), { image: new Uint8Array(bytes) });
    expect(result).toMatchObject({ ok: false, failure: { kind: "image-unsuitable" } });
    expect(device.sessions).toEqual([]);
  });

  it("leaves a session that another uploader has begun alone, and touches nothing", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const first = Promise.withResolvers<void>();
    const second: { promise?: ReturnType<typeof flash> } = {};
    const running = flash(targetOf(device), {
      onEvent: (event) => {
        if (event.kind !== "progress" || second.promise !== undefined) return;
        second.promise = flash(targetOf(device));
        first.resolve();
      },
    });
    await first.promise;
    expect((await running).result).toMatchObject({ ok: true });
    expect((await second.promise!).result).toMatchObject({
      ok: false,
      failure: { kind: "upload-interrupted", effect: "none", phase: "negotiating" },
    });
    await device.settled();
    expect(device.sessions.filter((session) => session.announcedBytes > 0)).toHaveLength(1);
  });
});
