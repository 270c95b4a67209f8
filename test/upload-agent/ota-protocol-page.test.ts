/** docs/ota-protocol.md and the code say the same. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { effectOf, type Failure, retryOf } from "#protocol/failure.ts";
import { OtaEncryption } from "#protocol/job.ts";
import { deviceDataTimeoutMs, stageLimits } from "#protocol/limits.ts";
import type { Ending } from "#upload-agent/device-connection.ts";
import { lastWordMs } from "#upload-agent/ota.ts";
import { ended, refused, type Standing } from "#upload-agent/ota-failure.ts";
import {
  answer,
  blockBytes,
  clientFeatures,
  deviceErrorOf,
  deviceFlag,
  hexByte,
  updateByte,
} from "#upload-agent/ota-protocol.ts";

const page = readFileSync(new URL("../../docs/ota-protocol.md", import.meta.url), "utf8");

/** The rows of the table under a heading, cell by cell, without its head. */
function rowsUnder(heading: string): readonly (readonly string[])[] {
  const section = page.split(`## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = [...section.matchAll(/^\| (.*) \|$/gm)].map(([, row]) =>
    (row ?? "").split("|").map((cell) => cell.trim()),
  );
  return rows.slice(1).filter((row) => !/^-+$/.test(row[0] ?? ""));
}

const standing = (over: Partial<Standing>): Standing => ({
  address: "lamp:3232",
  deadlineMs: 60_000,
  silenceMs: 160_000,
  phase: "sending",
  sentBytes: 0,
  totalBytes: 1_000,
  cutBy: undefined,
  ...over,
});
const wordsOf = (failure: Failure) => `\`${failure.kind}\`, \`${effectOf(failure)}\`, ${retryOf(failure)}`;

test("every error of a device is on the page with its meaning, failure, effect and retry class", () => {
  const codes = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => deviceErrorOf(byte) !== undefined);
  const rows = codes.map((byte) => {
    const failure = refused(standing({ phase: "negotiating" }), byte);
    return [`\`${hexByte(byte)}\``, deviceErrorOf(byte)?.meaning, wordsOf(failure)];
  });
  const documented = rowsUnder("Errors of the device");
  expect(documented.map(([code, meaning, ...words]) => [code, meaning, words.join(", ")])).toEqual(rows);
});

test("every end of a conversation is on the page, before and after the first byte of the image", () => {
  const endings: readonly (readonly [name: string, ending: Ending, cutBy: Standing["cutBy"]])[] = [
    ["`closed`", { kind: "closed" }, undefined],
    ["`broken`", { kind: "broken", detail: "ECONNRESET" }, undefined],
    ["`silent`", { kind: "silent", limitMs: 160_000 }, undefined],
    ["`flooded`", { kind: "flooded", unreadBytes: 2_000 }, undefined],
    ["`garbled`", { kind: "garbled", detail: "it sent an empty frame" }, undefined],
    ["`cut` by a cancel", { kind: "cut" }, "abort"],
    ["`cut` by the deadline", { kind: "cut" }, "deadline"],
  ];
  const rows = endings.map(([name, ending, cutBy]) => {
    const at = (sentBytes: number) => wordsOf(ended(standing({ sentBytes, cutBy }), ending, undefined));
    return [name, at(0), at(1)];
  });
  expect(rowsUnder("Everything else that can end a flash")).toEqual(rows);
});

test("every feature and answer is on the page with its byte", () => {
  const documented = rowsUnder("Features and answers").map(([byte, constant]) => [constant, byte]);
  const row = (constant: string, byte: number) => [constant, `\`${hexByte(byte)}\``];
  expect(documented).toEqual([
    row("`clientFeatures` without a key", clientFeatures({ hasKey: false })),
    row("`clientFeatures` with a key", clientFeatures({ hasKey: true })),
    ...Object.entries(deviceFlag).map(([name, byte]) => row(`\`deviceFlag.${name}\``, byte)),
    ...Object.entries(answer).map(([name, byte]) => row(`\`answer.${name}\``, byte)),
  ]);
  const [, , , , , , , kind, , , , , , image] = rowsUnder("The steps");
  const kinds = Object.entries(updateByte).map(([name, byte]) => `\`0${byte}\` ${name.replace("-", " ")}`);
  expect(kind?.at(-1)).toContain(kinds.join(", "));
  expect(image?.at(-1)).toContain(String(blockBytes));
});

test("every policy of encryption is on the page", () => {
  expect(rowsUnder("The cipher").map(([policy]) => policy)).toEqual(OtaEncryption.options.map((name) => `\`${name}\``));
});

test("every deadline is on the page with its value", () => {
  const { connecting, negotiating, flashing } = stageLimits;
  const values = Object.entries({
    connecting: connecting.totalMs,
    negotiating: negotiating.totalMs,
    silence: flashing.silenceMs,
    total: flashing.totalMs,
    lastWord: lastWordMs,
    device: deviceDataTimeoutMs,
  });
  const rows = rowsUnder("Deadlines").map(([name, ms]) => [name, Number(ms?.replaceAll(",", ""))]);
  expect(rows).toEqual(values.map(([name, ms]) => [`\`${name}\``, ms]));
});
