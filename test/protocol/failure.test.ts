/** Failures: each has its sentence, its retry class, and its word on what became of the device. */
import { describe, expect, test } from "vitest";
import { stageLimits } from "#protocol/limits.ts";
import { describeFailure, Effect, effectOf, Failure, ProvenanceFault, retryOf, tailOf } from "#protocol/failure.ts";

const address = "10.0.0.7:3232";

/** One of every kind; the type makes sure that none is missing. */
const examples: { readonly [K in Failure["kind"]]: Extract<Failure, { kind: K }> } = {
  "config-invalid": { kind: "config-invalid", exitCode: 2, tail: ["Failed config", "  esphome: required"] },
  "compiler-exit": { kind: "compiler-exit", exitCode: 1, tail: ["error: expected ';'"] },
  "toolchain-missing": { kind: "toolchain-missing", missing: "g++", detail: "no such file" },
  "version-unknown": {
    kind: "version-unknown",
    tool: "esphome",
    version: "2031.1.0",
    detail: "no matching distribution",
  },
  "bundle-refused": { kind: "bundle-refused", reason: "it names a file outside of itself: ../secrets.yaml" },
  "artifact-missing": { kind: "artifact-missing", detail: "no file matches build/*.bin" },
  "artifact-mismatch": { kind: "artifact-mismatch", wanted: "aa11", found: "bb22" },
  "provenance-refused": { kind: "provenance-refused", fault: "unsigned", agent: "build-1" },
  "disk-full": { kind: "disk-full", path: "/var/lib/flashyard" },
  "limit-exceeded": { kind: "limit-exceeded", resource: "memory", limit: 3_000_000_000, used: 3_100_000_000 },
  deadline: { kind: "deadline", stage: "compiling", limit: "silence", limitMs: 600_000, effect: "none" },
  "agent-lost": { kind: "agent-lost", agent: "pi-4", effect: "uncertain" },
  "device-unreachable": { kind: "device-unreachable", address, detail: "connection refused" },
  "upload-interrupted": {
    kind: "upload-interrupted",
    address,
    phase: "sending",
    effect: "partial",
    sentBytes: 8_192,
    totalBytes: 500_000,
    detail: "connection reset",
  },
  "auth-rejected": { kind: "auth-rejected", address, detail: "0x82" },
  "device-refused": {
    kind: "device-refused",
    address,
    code: 0x8b,
    meaning: "too little space",
    phase: "preparing",
    effect: "none",
  },
  protocol: { kind: "protocol", address, phase: "negotiating", detail: "0x7F instead of 0x00", effect: "none" },
  "encryption-required": { kind: "encryption-required", address, detail: "no key was given" },
  "wrong-device": { kind: "wrong-device", address, wanted: "kitchen", found: "cellar" },
  "not-running": { kind: "not-running", address, wanted: "Oct 14 2026, 10:00:00", found: "Oct 13 2026, 09:00:00" },
  "not-verified": { kind: "not-verified", address, detail: "its API is encrypted", effect: "committed" },
  "death-unproven": { kind: "death-unproven", job: "01kdvdna04000000.compile", agent: "pi-4", waitedMs: 62_000 },
  "tree-stuck": {
    kind: "tree-stuck",
    path: "/home/build/removed/0a1b",
    code: "EACCES",
    detail: "permission denied",
    isOut: true,
    trees: 2,
  },
  "rolled-back": { kind: "rolled-back", address, wanted: "Oct 14 2026, 10:00:00", found: "Oct 13 2026, 09:00:00" },
  "downgrade-refused": { kind: "downgrade-refused", address, wanted: "ESPHome 2026.6.0", found: "ESPHome 2026.10.0" },
  "port-missing": { kind: "port-missing", port: "usb-cp2102-01", detail: "no such file" },
  "port-busy": { kind: "port-busy", port: "usb-cp2102-01", detail: "resource temporarily unavailable" },
  "chip-mismatch": { kind: "chip-mismatch", port: "usb-cp2102-01", wanted: "esp32c3", found: "ESP32-S3" },
  "flasher-failed": {
    kind: "flasher-failed",
    tool: "esptool",
    port: "usb-cp2102-01",
    phase: "writing",
    exitCode: 2,
    effect: "partial",
    tail: ["A fatal error occurred: the chip stopped responding."],
  },
  "image-unsuitable": { kind: "image-unsuitable", detail: "it has no image for an upload over the air" },
  "farm-restored": { kind: "farm-restored", backupAt: Date.UTC(2026, 10, 26, 12, 30), effect: "uncertain" },
  "secrets-unreadable": { kind: "secrets-unreadable", detail: "they are sealed to other keys than its own" },
  internal: { kind: "internal", detail: "no such thing" },
};
const all = Object.values(examples);

test("every kind has its sentence", () => {
  expect(Object.fromEntries(all.map((failure) => [failure.kind, describeFailure(failure)]))).toMatchSnapshot();
});

test("a sentence is one line and holds every offending value", () => {
  for (const failure of all) {
    const sentence = describeFailure(failure);
    expect(sentence).not.toMatch(/\n|undefined|\[object|NaN/);
    const hidden = new Set([
      "kind",
      "tail",
      "fault",
      "effect",
      "code",
      "limit",
      "limitMs",
      "phase",
      "waitedMs",
      "isOut",
      "backupAt",
      "fault",
    ]);
    for (const [field, value] of Object.entries(failure)) {
      if (!hidden.has(field)) expect(sentence).toContain(String(value));
    }
  }
});

test("every effect and both limits have their own words", () => {
  const sentences = Effect.options.map((effect) => describeFailure({ ...examples["agent-lost"], effect }));
  expect(sentences).toMatchSnapshot();
  expect(new Set(sentences).size).toBe(Effect.options.length);
  expect(describeFailure({ kind: "deadline", limit: "total", limitMs: 3_600_000, effect: "partial" })).toBe(
    "not done after 3600 s; the device holds a partial image and needs another flash",
  );
  expect(describeFailure(examples.deadline)).toBe(
    "no sign of life for 600 s (stage: compiling); the device was not touched",
  );
});

test("every reason why nobody knows the builder has its own words, and says what to do", () => {
  const sentences = ProvenanceFault.options.map((fault) => describeFailure({ kind: "provenance-refused", fault }));
  expect(new Set(sentences).size).toBe(ProvenanceFault.options.length);
  for (const sentence of sentences)
    expect(sentence).toMatch(/^the artifact is not flashed: .*(build it again|try again)/);
  const reported = { kind: "provenance-refused", fault: "other-job", agent: "build-1" } as const;
  expect(describeFailure(reported)).toMatch(/^what build-1 built is not taken: /);
});

test("a tree that stands as it was is told from one that only waits for its end", () => {
  expect(describeFailure(examples["tree-stuck"])).toContain("no build uses it any more");
  expect(describeFailure({ ...examples["tree-stuck"], isOut: false })).toContain("it stands as it was");
});

describe("whether trying again helps", () => {
  test("is said for every kind", () => {
    expect(Object.fromEntries(all.map((failure) => [failure.kind, retryOf(failure)]))).toMatchSnapshot();
  });

  test("is always no when the device may have been touched", () => {
    for (const failure of all) {
      if (!("effect" in failure)) continue;
      for (const effect of Effect.options) {
        if (effect !== "none") expect(retryOf({ ...failure, effect } as Failure)).toBe("never");
      }
    }
  });

  test("is said for every stage whose time is over, and is no where nobody said which", () => {
    const stages = Object.keys(stageLimits);
    const deadlineIn = (stage: string) => ({ ...examples.deadline, stage });
    expect(Object.fromEntries(stages.map((stage) => [stage, retryOf(deadlineIn(stage))]))).toMatchSnapshot();
    for (const stage of ["a stage of tomorrow", "constructor"]) expect(retryOf(deadlineIn(stage))).toBe("never");
    const { stage: _stage, ...older } = examples.deadline;
    expect(retryOf(older)).toBe("never");
    expect(Failure.parse(older)).toEqual(older);
  });

  test("depends for a tree that is stuck on whether what is in the way passes", () => {
    const stuck = (code: string) => retryOf({ ...examples["tree-stuck"], code });
    expect(["EBUSY", "ENOSPC"].map(stuck)).toEqual(["later", "later"]);
    expect(["EACCES", "EROFS", "unknown"].map(stuck)).toEqual(["never", "never", "never"]);
  });

  test("depends on the effect where the cause is the connection or the agent", () => {
    expect(retryOf({ ...examples["agent-lost"], effect: "none" })).toBe("elsewhere");
    expect(retryOf({ ...examples["upload-interrupted"], effect: "none" })).toBe("later");
  });
});

test("what became of the device is its own word, nothing for what comes before the first byte, and taken for a wrong build", () => {
  expect(effectOf(examples["upload-interrupted"])).toBe("partial");
  expect(effectOf(examples["wrong-device"])).toBe("none");
  expect(effectOf(examples["compiler-exit"])).toBe("none");
  expect(effectOf(examples["not-running"])).toBe("committed");
});

test("a tool's last lines are there where there is a tool", () => {
  expect(tailOf(examples["compiler-exit"])).toEqual(["error: expected ';'"]);
  expect(tailOf(examples["disk-full"])).toEqual([]);
});

test("every example is a failure by its own schema", () => {
  for (const failure of all) expect(Failure.parse(failure)).toEqual(failure);
});
