/** Asking a device what it runs, and everything else that may answer at its port. */
import { once } from "node:events";
import { createServer } from "node:net";
import { assert, asyncProperty, nat, property, string, uint8Array } from "fast-check";
import { describe, expect, it } from "vitest";
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { type ApiMode, SimulatedApi } from "#simulator/native-api.ts";
import { startFullHouse } from "#test/fixtures/full-house.ts";
import { otaKey, otherKey } from "#test/support/simulated-flash.ts";
import { askDevice } from "#upload-agent/native-api.ts";
import { delimitedFields, encodeNumber, encodeText, encodeVarint } from "#upload-agent/protobuf.ts";

const report: DeviceReport = {
  name: "lamp",
  mac: "02:00:00:00:00:01",
  compilationTime: "2026-10-01 12:01:00 +0000",
  esphomeVersion: "2026.10.0",
};

const targetAt = (port: number, over: Partial<OtaTarget> = {}): OtaTarget => ({
  kind: "ota",
  host: "127.0.0.1",
  port: 3232,
  encrypted: false,
  name: "lamp",
  api: { port },
  ...over,
});

const keyedAt = (port: number, encryptionKey = otaKey) => targetAt(0, { api: { port, encryptionKey } });

const ask = (target: OtaTarget, timeoutMs = 5_000, signal = new AbortController().signal) =>
  askDevice(target, { signal, timeoutMs });

async function askMode(mode: ApiMode, said: DeviceReport | undefined = report, timeoutMs = 5_000) {
  await using api = new SimulatedApi(() => said, mode);
  return await ask(targetAt(await api.listen()), timeoutMs);
}

/** Asks servers that say any bytes at all, and expects one of these answers. */
async function survivesAnyBytes(targetOf: (port: number) => OtaTarget, kinds: readonly string[]): Promise<void> {
  await assert(
    asyncProperty(uint8Array({ maxLength: 200 }), async (bytes) => {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.end(bytes);
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const answered = await ask(targetOf((server.address() as { port: number }).port), 1_000);
      server.close();
      expect(kinds).toContain(answered.kind);
    }),
    { numRuns: 50 },
  );
}

describe("a device that is asked", () => {
  it("says what it runs", async () => {
    expect(await askMode("plain")).toEqual({ kind: "answered", report });
  });

  it("is understood when it talks of other things first and one byte at a time", async () => {
    expect(await askMode("chatty")).toEqual({ kind: "answered", report });
  });

  it("is told to be encrypted when it answers so", async () => {
    expect(await askMode("encrypted")).toEqual({ kind: "encrypted" });
  });

  it("is not asked at all when its configuration has a key that cannot be one", async () => {
    await using api = new SimulatedApi(() => report);
    expect(await ask(keyedAt(await api.listen(), "x"))).toEqual({ kind: "key-unusable" });
    expect(api.asked).toBe(0);
  });

  it("has no API when its configuration names none", async () => {
    const { api: _none, ...target } = targetAt(1);
    expect(await ask(target)).toEqual({ kind: "no-api" });
  });

  it.each(["closing", "huge", "endless-length", "malformed", "http", "pinging"] as const)(
    "counts as unreachable when what answers is broken (%s)",
    async (mode) => {
      expect(await askMode(mode)).toMatchObject({ kind: "unreachable", detail: expect.stringMatching(/./) });
    },
  );

  it("counts as unreachable when it does not answer in time", async () => {
    expect(await askMode("silent", report, 100)).toEqual({
      kind: "unreachable",
      detail: "the device did not answer in time",
    });
  });

  it("counts as unreachable when it has no name", async () => {
    expect(await askMode("plain", { ...report, name: "" })).toMatchObject({ kind: "unreachable" });
  });

  it("is given up at once when the caller does not want to know any more", async () => {
    await using house = await startFullHouse();
    const cancel = new AbortController();
    const asking = ask(targetAt(house.port), 5_000, cancel.signal);
    cancel.abort();
    expect(await asking).toMatchObject({ kind: "unreachable" });
  });

  it("cannot rearrange a terminal with what it says", async () => {
    const hostile = {
      ...report,
      name: "la\u001b[2Jmp\r\n\u202e",
      esphomeVersion: `1${"\u0000".repeat(50)}${"9".repeat(500)}`,
    };
    const answered = await askMode("plain", hostile);
    expect(answered).toMatchObject({ kind: "answered", report: { name: "la[2Jmp" } });
    expect(answered.kind === "answered" && answered.report.esphomeVersion.length).toBeLessThanOrEqual(120);
  });

  it("survives whatever answers there", async () => {
    await survivesAnyBytes(targetAt, ["unreachable", "encrypted"]);
  });
});

describe("a device that only speaks encrypted", () => {
  /** What it says of itself before anybody has proved anything. */
  const claim = { name: "lamp", mac: "020000000001" };

  async function askEncrypted(mode: ApiMode, said = report, { known = otaKey, timeoutMs = 5_000 } = {}) {
    await using api = new SimulatedApi(() => said, mode, otaKey);
    return await ask(keyedAt(await api.listen(), known), timeoutMs);
  }

  it.each(["plain", "chatty"] as const)("says what it runs to who knows its key (%s)", async (mode) => {
    expect(await askEncrypted(mode)).toEqual({ kind: "answered", report });
  });

  it("says nothing to who has another key, and who asks learns that", async () => {
    expect(await askEncrypted("plain", report, { known: otherKey })).toEqual({
      kind: "key-refused",
      detail: "the API's encryption key is wrong",
      claim,
    });
  });

  it("says nothing to who asks in plaintext", async () => {
    await using api = new SimulatedApi(() => report, "plain", otaKey);
    expect(await ask(targetAt(await api.listen()))).toEqual({ kind: "encrypted" });
  });

  it("is not believed when it proves to have another key", async () => {
    expect(await askEncrypted("forging")).toEqual({
      kind: "key-refused",
      detail: "what answers does not know the API's encryption key",
      claim,
    });
  });

  it("is not believed when it speaks plaintext", async () => {
    await using api = new SimulatedApi(() => report);
    const asked = await ask(keyedAt(await api.listen()));
    expect(asked).toEqual({ kind: "key-refused", detail: "the device does not speak encrypted" });
  });

  it("cannot rearrange a terminal with its reason, nor fill a page", async () => {
    const named = await askEncrypted("plain", { ...report, name: "la\u001b[2Jmp" }, { known: otherKey });
    expect(named).toMatchObject({ kind: "key-refused", claim: { name: "la[2Jmp" } });
    const answered = await askEncrypted("rejecting");
    expect(answered).toMatchObject({ kind: "key-refused", detail: expect.stringMatching(/^[\x20-\x7e]{20,160}$/) });
  });

  it.each(["closing", "http"] as const)("counts as unreachable when what answers is broken (%s)", async (mode) => {
    expect(await askEncrypted(mode)).toMatchObject({ kind: "unreachable", detail: expect.stringMatching(/./) });
  });

  it.each([
    ["forged", "a frame was damaged or forged on its way from the device"],
    ["huge", "its message is shorter than it says"],
    ["stub", "it sent a message of 2 bytes"],
    ["malformed", "its answer is not readable"],
    ["pinging", "it sent 64 messages and none says what it is"],
  ] as const)("is told what is wrong with it (%s)", async (mode, detail) => {
    expect(await askEncrypted(mode)).toEqual({ kind: "unreachable", detail });
  });

  it.each(["silent", "stalling", "endless-length"] as const)(
    "counts as unreachable when it does not answer in time (%s)",
    async (mode) => {
      expect(await askEncrypted(mode, report, { timeoutMs: 150 })).toMatchObject({
        kind: "unreachable",
        detail: "the device did not answer in time",
      });
    },
  );

  it("survives whatever answers there", async () => {
    await survivesAnyBytes(keyedAt, ["unreachable", "key-refused"]);
  });
});

describe("a message in protocol buffers", () => {
  it("is read as it was written", () => {
    assert(
      property(string(), nat(2 ** 28 - 1), string(), (first, number, second) => {
        const message = Buffer.concat([encodeText(2, first), encodeNumber(3, number), encodeText(300, second)]);
        const fields = delimitedFields(message);
        expect(Buffer.from(fields!.get(2)!).toString()).toBe(Buffer.from(first).toString());
        expect(Buffer.from(fields!.get(300)!).toString()).toBe(Buffer.from(second).toString());
      }),
    );
  });

  it("of any bytes is read or refused, and never read beyond its end", () => {
    assert(
      property(uint8Array({ maxLength: 300 }), (bytes) => {
        for (const field of delimitedFields(bytes)?.values() ?? []) expect(field.length).toBeLessThan(bytes.length);
      }),
      { numRuns: 2_000 },
    );
  });

  it("writes numbers as the specification has it", () => {
    expect([...encodeVarint(0)]).toEqual([0]);
    expect([...encodeVarint(300)]).toEqual([0xac, 0x02]);
    expect([...encodeVarint(2 ** 31 - 1)]).toEqual([0xff, 0xff, 0xff, 0xff, 0x07]);
  });
});
