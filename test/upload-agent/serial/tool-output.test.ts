/** Outputs of the real programs (esptool 5.4.0, avrdude 7.1), as they came. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AvrdudeReport } from "#upload-agent/serial/avrdude-output.ts";
import { EsptoolReport } from "#upload-agent/serial/esptool-output.ts";

const folder = join(import.meta.dirname, "../../fixtures/serial/output");
const textOf = (name: string) => readFileSync(join(folder, `${name}.txt`), "utf8");

describe("esptool", () => {
  function read(name: string): { readonly report: EsptoolReport; readonly percents: readonly number[] } {
    const report = new EsptoolReport();
    const percents = textOf(name)
      .split(/\r?\n|\r/)
      .flatMap((line) => report.line(line) ?? []);
    return { report, percents };
  }

  test("a write is followed to its hash", () => {
    const { report, percents } = read("esptool-written");
    expect(report).toMatchObject({ chip: "esp32s3", mac: "24:0A:C4:12:34:56", verified: 1, phase: "committing" });
    expect(report.description).toBe("ESP32-S3 (QFN56) (revision v0.0)");
    expect(percents.slice(0, 3)).toEqual([5.3, 10.6, 15.9]);
    expect(percents.at(-1)).toBe(100);
    expect(report.wireBytes).toBeGreaterThan(300_000);
    expect(report.mayHaveTouched).toBe(true);
  });

  test("a file that does not compress is followed as well", () => {
    const { report, percents } = read("esptool-not-compressed");
    expect([report.verified, report.wireBytes, percents]).toEqual([1, 100, [100]]);
  });

  test("who is there is read without a touch", () => {
    const { report } = read("esptool-read-mac");
    expect(report).toMatchObject({ chip: "esp32c3", mac: "24:0A:C4:12:34:56", mayHaveTouched: false, verified: 0 });
  });

  test.each([
    ["esptool-other-chip", { otherChip: "ESP32-S3", mayHaveTouched: false }],
    ["esptool-no-answer", { couldNotConnect: true, mayHaveTouched: false }],
    ["esptool-no-port", { couldNotOpen: true, mayHaveTouched: false }],
    ["esptool-noise-before", { couldNotConnect: false, mayHaveTouched: false, verified: 0 }],
    ["esptool-noise-within", { mayHaveTouched: true, verified: 0, phase: "sending" }],
    ["esptool-dead-within", { mayHaveTouched: true, verified: 0, phase: "sending" }],
    ["esptool-wrong-hash", { mayHaveTouched: true, verified: 0, phase: "committing" }],
  ])("%s", (name, facts) => {
    expect(read(name).report).toMatchObject(facts);
  });

  test("a chip that esptool does not know is another chip", () => {
    const report = new EsptoolReport();
    report.line("esptool v5.4.0");
    report.line("WARNING: This chip doesn't appear to be an ESP32-C3 (read chip ID 77). Probably it is unsupported");
    expect(report.otherChip).toBe("chip ID 77");
  });

  test("a text that is not esptool's is taken for the worst", () => {
    const report = new EsptoolReport();
    report.line("flashing with something else");
    expect(report.mayHaveTouched).toBe(true);
    expect(new EsptoolReport().mayHaveTouched).toBe(false);
  });

  test("lines without end and numbers that are none change nothing", () => {
    const report = new EsptoolReport();
    for (const line of [
      "Writing at",
      "Writing at 0x0 999999% x",
      "MAC: zz",
      "Wrote bytes",
      "\u0000",
      "%".repeat(10_000),
    ]) {
      expect(report.line(line)).toBeUndefined();
    }
    expect(report).toMatchObject({ verified: 0, wireBytes: 0, mac: undefined, chip: undefined });
  });
});

describe("avrdude", () => {
  function read(
    name: string,
    chunkBytes = 7,
  ): { readonly report: AvrdudeReport; readonly percents: readonly number[] } {
    const report = new AvrdudeReport();
    const bytes = Buffer.from(textOf(name));
    const percents: number[] = [];
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      const percent = report.bytes(bytes.subarray(at, at + chunkBytes));
      if (percent !== undefined) percents.push(percent);
    }
    return { report, percents };
  }

  test("a write is followed to its verification, however its output is cut", () => {
    for (const chunkBytes of [1, 7, 1_000_000]) {
      const { report, percents } = read("avrdude-written", chunkBytes);
      expect(report).toMatchObject({ verifiedBytes: 178, part: "m328p", phase: "committing", mayHaveTouched: true });
      expect(percents.at(-1)).toBe(100);
      expect(percents.toSorted((a, b) => a - b)).toEqual(percents);
    }
  });

  test.each([
    ["avrdude-other-part", { isOtherPart: true, part: "m328p", mayHaveTouched: false, verifiedBytes: undefined }],
    ["avrdude-no-answer", { couldNotConnect: true, mayHaveTouched: false, part: undefined, phase: "connecting" }],
    ["avrdude-no-port", { refusedPort: "missing", mayHaveTouched: false }],
  ])("%s", (name, facts) => {
    expect(read(name).report).toMatchObject(facts);
  });
});
