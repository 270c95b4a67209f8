/** The verdict has teeth: each of the five broken promises is found in made-up records, and nothing is found in good ones. */
import { describe, expect, it } from "vitest";
import { type Evidence, isClean, judge, type JudgedRequest, type JudgedSession, promises } from "#test/chaos/judge.ts";

const request = (chain: string, change: Partial<JudgedRequest> = {}): JudgedRequest => ({
  chain,
  device: "lamp",
  isAccepted: true,
  record: { isFinished: true, upload: "succeeded", level: "running" },
  ...change,
});

const cancelled = { isFinished: true, upload: "cancelled" } as const;
const failed = { isFinished: true, upload: "failed" } as const;

/** A whole flash of 100 ms, acknowledged. */
const session = (chain: string, dataAt: number, change: Partial<JudgedSession> = {}): JudgedSession => ({
  device: "lamp",
  chain,
  dataBytes: 1_000,
  isWhole: true,
  isCommitted: true,
  dataAt,
  endedAt: dataAt + 100,
  ...change,
});

const brokenOff = { isWhole: false, isCommitted: false };

/** Two requests, flashed one after the other; the device runs the second. */
const good: Evidence = {
  requests: [request("a"), request("b")],
  sessions: [session("a", 1_000), session("b", 2_000)],
  devices: [{ name: "lamp", runs: "b" }],
};

/** The promises that are broken by this evidence. */
function broken(change: Partial<Evidence>): readonly string[] {
  const verdict = judge({ ...good, ...change });
  expect(isClean(verdict)).toBe(promises.every((promise) => verdict[promise].length === 0));
  return promises.filter((promise) => verdict[promise].length > 0);
}

describe("a good run", () => {
  it("is clean", () => {
    expect(broken({})).toEqual([]);
  });

  it("may have requests that were cancelled before their first byte, refused ones, and ones without an answer", () => {
    const requests = [
      ...good.requests,
      request("c", { stoppedAt: 1_500, record: cancelled }),
      request("d", { record: failed }),
      { chain: "e", device: "lamp", isAccepted: false },
    ];
    expect(broken({ requests })).toEqual([]);
  });

  it("may have handshakes, and a flash that broke off and is called failed or unknown", () => {
    const handshake: JudgedSession = { device: "lamp", dataBytes: 0, ...brokenOff, endedAt: 2_050 };
    const sessions = [session("a", 1_000), session("c", 1_300, brokenOff), handshake, session("b", 2_000)];
    for (const upload of ["failed", "unknown"] as const) {
      const requests = [...good.requests, request("c", { record: { isFinished: true, upload } })];
      expect(broken({ requests, sessions })).toEqual([]);
    }
  });

  it("may have a device that still runs the factory's program", () => {
    const requests = [request("a", { record: failed })];
    expect(broken({ requests, sessions: [session("a", 1_000, brokenOff)], devices: [{ name: "lamp" }] })).toEqual([]);
  });
});

describe("lost", () => {
  it("is a chain that was accepted and is in no record", () => {
    const requests = [...good.requests, { chain: "c", device: "lamp", isAccepted: true }];
    expect(broken({ requests })).toEqual(["lost"]);
  });
});

describe("double", () => {
  it("is a second session with bytes of the same image, even if the first one broke off", () => {
    const sessions = [session("a", 1_000), session("b", 2_000, brokenOff), session("b", 3_000)];
    expect(broken({ sessions })).toEqual(["double"]);
  });

  it("is a session that begins before the other has ended at the device", () => {
    expect(broken({ sessions: [session("a", 1_000), session("b", 1_050)] })).toEqual(["double"]);
  });

  it("is a session that begins while an older one than the last is still open", () => {
    const requests = [...good.requests, request("c", { record: failed })];
    const sessions = [session("a", 1_000, { endedAt: 5_000 }), session("c", 1_100, brokenOff), session("b", 2_000)];
    expect(judge({ ...good, requests, sessions }).double).toHaveLength(2);
  });

  it("is a session that begins while another one is open for ever", () => {
    const { endedAt: _endedAt, ...open } = session("a", 1_000);
    expect(broken({ sessions: [open, session("b", 9_000)] })).toContain("double");
  });

  it("is an image that nobody had asked for", () => {
    const { chain: _chain, ...foreign } = session("a", 1_500);
    expect(broken({ sessions: [...good.sessions, foreign] })).toContain("double");
  });

  it("is an image that was asked for another device", () => {
    const requests = [...good.requests, request("c", { device: "porch" })];
    expect(broken({ requests, sessions: [session("c", 500), ...good.sessions] })).toEqual(["double"]);
  });
});

describe("late", () => {
  it("is a first byte after the user was told that the upload is cancelled", () => {
    const requests = [request("a", { stoppedAt: 900 }), request("b")];
    expect(broken({ requests })).toEqual(["late"]);
  });

  it("is found whatever the record says of it", () => {
    const requests = [request("a", { stoppedAt: 900, record: cancelled }), request("b")];
    expect(broken({ requests })).toContain("late");
  });
});

describe("stuck", () => {
  it("is a chain that has not ended", () => {
    const requests = [...good.requests, request("c", { record: { isFinished: false, upload: "queued" } })];
    expect(broken({ requests })).toEqual(["stuck"]);
  });

  it("is also a chain that nobody could say was accepted, and that is in the records", () => {
    const record = { isFinished: false, upload: "dispatched" } as const;
    expect(broken({ requests: [...good.requests, request("c", { isAccepted: false, record })] })).toEqual(["stuck"]);
  });
});

describe("untrue", () => {
  it("is a success of which the device never got all of its image", () => {
    expect(broken({ sessions: [session("a", 1_000, brokenOff), session("b", 2_000)] })).toEqual(["untrue"]);
    expect(broken({ sessions: [session("b", 2_000)] })).toEqual(["untrue"]);
  });

  it("is a failure of which the device took the image", () => {
    expect(broken({ requests: [request("a", { record: failed }), request("b")] })).toEqual(["untrue"]);
  });

  it("is a cancelled upload of which the device got a byte", () => {
    const requests = [request("a", { record: cancelled }), request("b")];
    expect(broken({ requests, sessions: [session("a", 1_000, brokenOff), session("b", 2_000)] })).toEqual(["untrue"]);
  });

  it("is a success that was the last flash of a device which runs something else", () => {
    expect(broken({ devices: [{ name: "lamp", runs: "a" }] })).toEqual(["untrue"]);
    expect(broken({ devices: [{ name: "lamp" }] })).toEqual(["untrue"]);
  });

  it("is a device that runs what is called failed or cancelled", () => {
    for (const record of [failed, cancelled]) {
      const requests = [request("a"), request("b", { record })];
      expect(broken({ requests })).toEqual(["untrue"]);
    }
  });
});
