import { expect, test } from "vitest";
import { judgeImage, readImage } from "#upload-agent/serial/image-header.ts";
import { espImage, factoryImage, noise } from "#test/fixtures/serial/esp-image.ts";

const code = noise(500, "code");

test.each(["esp8266", "esp32", "esp32c3", "esp32s3"] as const)(
  "an image of the %s says for which chip it is",
  (chip) => {
    const reading = readImage(espImage(chip, code));
    expect(reading).toEqual({ kind: "image", head: { chip, segments: 1, hasDigest: chip !== "esp8266" } });
  },
);

test.each(["esp8266", "esp32", "esp32c3", "esp32s3"] as const)(
  "a factory image of the %s fits it at the start of the flash",
  (chip) => {
    expect(judgeImage(factoryImage(chip, 1_000), 0, chip)).toEqual({ kind: "fits" });
  },
);

test("no factory image of one chip fits another", () => {
  const chips = ["esp8266", "esp32", "esp32c3", "esp32s3"] as const;
  for (const built of chips) {
    for (const wanted of chips.filter((chip) => chip !== built)) {
      const verdict = judgeImage(factoryImage(built, 1_000), 0, wanted);
      expect([built, wanted, verdict]).toEqual([built, wanted, { kind: "other-chip", found: built }]);
    }
  }
});

test("an image for a chip that nobody here knows fits none", () => {
  const image = espImage("esp32c3", code);
  image.writeUInt16LE(77, 12);
  // Its hash is that of the other number.
  image[23] = 0;
  expect(judgeImage(image, 0, "esp32c3")).toEqual({ kind: "other-chip", found: "unknown-77" });
});

test("an application fits at its own place, and an image of another chip does not", () => {
  expect(judgeImage(espImage("esp32", code), 0x1_0000, "esp32")).toEqual({ kind: "fits" });
  expect(judgeImage(espImage("esp32c3", code), 0x1_0000, "esp32")).toEqual({ kind: "other-chip", found: "esp32c3" });
});

test("data fits where no bootloader belongs", () => {
  expect(judgeImage(noise(4_096, "file system"), 0x29_0000, "esp32")).toEqual({ kind: "fits" });
});

test("what has no bootloader in the bootloader's place is unsuitable", () => {
  const application = espImage("esp32", code);
  expect(judgeImage(Buffer.concat([application, Buffer.alloc(8_192, 0xff)]), 0, "esp32").kind).toBe("unsuitable");
  expect(judgeImage(Buffer.from("#!/bin/sh\necho hello\n"), 0, "esp32c3").kind).toBe("unsuitable");
  expect(judgeImage(Buffer.alloc(0), 0, "esp32c3")).toEqual({ kind: "unsuitable", detail: "it is empty" });
});

test("an image that was cut off anywhere is unsuitable", () => {
  const image = espImage("esp32c3", code);
  for (let bytes = 1; bytes < image.length; bytes++) {
    expect([bytes, judgeImage(image.subarray(0, bytes), 0, "esp32c3").kind]).toEqual([bytes, "unsuitable"]);
  }
});

test("an image with a damaged byte is unsuitable, whatever byte it is", () => {
  const image = espImage("esp32c3", code);
  for (let at = 0; at < image.length - 32; at += 7) {
    const damaged = Buffer.from(image);
    damaged[at] = (damaged[at] ?? 0) ^ 0x10;
    expect([at, judgeImage(damaged, 0, "esp32c3").kind]).not.toEqual([at, "fits"]);
  }
});
