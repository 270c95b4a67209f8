/** Bytes to messages and back: what cannot be decoded is a value that names its fault, and nothing is ever thrown. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AdminRequest } from "#protocol/admin.ts";
import { Chain } from "#protocol/chain.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { WireError } from "#protocol/errors.ts";
import { JobResult } from "#protocol/job.ts";
import { Ask, Dispatch, StopOrder } from "#protocol/messages.ts";
import {
  bootNumber,
  built,
  chainNumber,
  failedWith,
  failures,
  flashed,
  installRequest,
} from "#test/support/farm-builders.ts";
import { TestFarm } from "#test/support/test-farm.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const claim = { v: 1, kind: "claim", boot: bootNumber(1), chain: chainNumber(1), job: "compile", attempt: 1 };

/** The error of what must not be decoded. */
function refusal(bytes: Uint8Array): WireError {
  const decoded = decode(Ask, bytes);
  if (decoded.ok) throw new Error("it was decoded");
  return decoded.error;
}

describe("decode refuses, with an error that says what is wrong:", () => {
  test.each<[string, Uint8Array, string, string]>([
    ["nothing", new Uint8Array(), "not-json", "0 bytes that are not JSON in UTF-8"],
    ["text that is not JSON", bytesOf("{kind: claim}"), "not-json", "13 bytes that are not JSON in UTF-8"],
    ["bytes that are not UTF-8", new Uint8Array([0x22, 0xff, 0x22]), "not-json", "3 bytes that are not JSON in UTF-8"],
    ["another shape", bytesOf("[1]"), "not-a-message", "expected object"],
    ["null", bytesOf("null"), "not-a-message", "expected object"],
    ["an unknown kind", encode({ ...claim, kind: "grab" }), "not-a-message", "kind:"],
    ["a newer version", encode({ ...claim, v: 2 }), "not-a-message", "v:"],
    ["a missing field", encode({ ...claim, boot: undefined }), "not-a-message", "boot:"],
    ["an id that is none", encode({ ...claim, chain: "../../etc" }), "not-a-message", "chain:"],
    ["an attempt before the first", encode({ ...claim, attempt: 0 }), "not-a-message", "attempt:"],
    ["half an attempt", encode({ ...claim, attempt: 1.5 }), "not-a-message", "attempt:"],
  ])("%s", (_what, bytes, code, message) => {
    const error = refusal(bytes);
    expect(error).toBeInstanceOf(WireError);
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  test("a fault deep inside, by its path", () => {
    const report = {
      ...claim,
      kind: "report",
      result: { kind: "failed", failure: { ...failures.final, exitCode: "one" } },
    };
    expect(refusal(encode(report)).message).toMatch(/^result\.failure\.exitCode: /);
  });

  test("whatever bytes come, without throwing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decode(Ask, bytes).ok).toBe(false);
      }),
      { numRuns: 200 },
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(decode(Dispatch, bytesOf(text)).ok).toBe(false);
      }),
      { numRuns: 200 },
    );
  });
});

describe("what is encoded is decoded to the same", () => {
  test.each([
    ["a claim", Ask, claim],
    ["a report", Ask, { ...claim, kind: "report", result: failedWith(failures.uncertain) }],
    ["a stop order", StopOrder, { v: 1, chain: chainNumber(1), job: "upload", attempt: 2 }],
    ["a result", JobResult, built()],
    ["a flash", JobResult, { ...flashed, report: { name: "a", mac: "b", compilationTime: "c", esphomeVersion: "d" } }],
    ["a request", AdminRequest, { v: 1, kind: "submit", chains: [installRequest(1)] }],
  ])("%s", (_what, schema, message) => {
    expect(decode(schema, encode(message))).toEqual({ ok: true, value: message });
  });

  test("a chain's record, at every point of its life", () => {
    const farm = new TestFarm();
    const check = () => expect(decode(Chain, encode(farm.chain(1)))).toEqual({ ok: true, value: farm.chain(1) });
    farm.compileAgent("bench");
    farm.uploadAgent("pi");
    farm.submit(installRequest(1));
    check();
    farm.bringToUpload(1);
    check();
    farm.claimFlash(1);
    farm.vanish("pi");
    check();
  });

  test("text in any script and with any sign", () => {
    const failure = { ...failures.elsewhere, detail: 'ß "日本" \u0000 \u{1F525} \\' };
    expect(decode(JobResult, encode(failedWith(failure)))).toEqual({ ok: true, value: failedWith(failure) });
  });

  test("without fields that nobody knows, so that a newer writer does not break an older reader", () => {
    expect(decode(Ask, encode({ ...claim, mood: "cheerful" }))).toEqual({ ok: true, value: claim });
  });

  test("a record from before a list was added has it empty", () => {
    const farm = new TestFarm();
    farm.submit(installRequest(1));
    const { compile, ...rest } = farm.chain(1);
    const { avoid: _avoid, earlier: _earlier, ...older } = compile!;
    const decoded = decode(Chain, encode({ ...rest, compile: older }));
    expect(decoded).toMatchObject({ ok: true, value: { compile: { avoid: [], earlier: [] } } });
  });
});
