import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { historyTable } from "#cli/commands/history.ts";
import { jobTable } from "#cli/commands/ps.ts";
import { fit, jsonLine, shown, widthOf } from "#cli/clean-text.ts";
import { deviceAddressFrom, targetAt } from "#cli/device-address.ts";
import { exitCodes, worstOf } from "#cli/exit-codes.ts";
import { failureLines, jobSentence } from "#cli/job-sentence.ts";
import { codeOfChain, summarySentence } from "#cli/outcome.ts";
import { duration, size, table } from "#cli/render.ts";
import { newestFailed, reasonAgainst } from "#cli/retry-choice.ts";
import { addressAgain, flashAgain } from "#cli/retry-requests.ts";
import { terminalOn, type TerminalOptions } from "#cli/terminal.ts";
import { treeLines } from "#cli/tree.ts";
import type { Chain } from "#protocol/chain.ts";
import { everyConfiguration } from "#protocol/ids.ts";
import { type CleanJob, type CompileJob, type UploadJob, withEncryption } from "#protocol/job.ts";
import {
  agentNamed,
  bootNumber,
  chainNumber,
  configurationNamed,
  failures,
  manifestOfBuild,
} from "#test/support/farm-builders.ts";
import { buildSpec, startAt, targetAt as targetOf } from "#test/support/farm-builders.ts";

const assigned = { agent: agentNamed("build-1"), boot: bootNumber(1) };

function compileJob(fields: Partial<CompileJob> = {}): CompileJob {
  return {
    lane: "compile",
    name: "compile",
    spec: buildSpec(),
    state: "queued",
    attempt: 0,
    avoid: [],
    earlier: [],
    ...fields,
  };
}

function uploadJob(fields: Partial<UploadJob> = {}): UploadJob {
  const spec = { target: targetOf("lamp.local") };
  return {
    lane: "upload",
    name: "upload",
    spec,
    mode: "flash",
    state: "held",
    attempt: 0,
    avoid: [],
    earlier: [],
    ...fields,
  };
}

function installOf(n: number, compile: CompileJob, upload: UploadJob): Chain {
  const configuration = configurationNamed(`device ${n}`);
  return { v: 2, id: chainNumber(n), kind: "install", configuration, createdAt: startAt, compile, upload };
}

function cleanJob(fields: Partial<CleanJob> = {}): CleanJob {
  const spec = { on: assigned.agent, trees: "configuration" as const };
  return { lane: "compile", name: "clean", spec, state: "queued", attempt: 0, avoid: [], earlier: [], ...fields };
}

function resetOf(n: number, clean: CleanJob): Chain {
  return { v: 2, id: chainNumber(n), kind: "reset", configuration: everyConfiguration, createdAt: startAt, clean };
}

const times = { startedAt: startAt, endedAt: startAt + 400 };

test("text from devices loses its control characters, line ends and changes of direction", () => {
  expect(shown("a\u001b[31mred\u001b[0m\tb\r\nc\u0007\u009b2J\u202edlrow")).toBe("ared b cdlrow");
  expect(shown("\u001b]0;title\u0007text")).toBe("text");
});

test("JSON for a terminal holds no control character, and reads back as it was", () => {
  const value = { text: "a\u001b[31m\u009b2J\u202e\u2028\u007fä" };
  const line = jsonLine(value);
  expect(line).not.toMatch(/[\p{Cc}\u2028\u202e]/u);
  expect(JSON.parse(line)).toEqual(value);
});

test("widths count what a terminal shows, and a cut never splits a character", () => {
  expect([widthOf("lamp"), widthOf("ランプ"), widthOf("e\u0301"), widthOf("👩‍🔧")]).toEqual([4, 6, 1, 2]);
  expect(fit("ランプと灯", 5)).toBe("ラン…");
  expect(fit("lamp", 4)).toBe("lamp");
  expect(fit("lamps", 4)).toBe("lam…");
  expect(fit("lamp", 0)).toBe("");
});

test("a table aligns wide text, leaves out empty columns and keeps to the width", () => {
  const rows = [
    ["ランプ", "", "running"],
    ["a\nb", "", "queued"],
  ];
  expect(table(["NAME", "NOTE", "STATE"], rows)).toEqual(["NAME    STATE", "ランプ  running", "a b     queued"]);
  expect(table(["NAME", "NOTE", "STATE"], rows, 10)).toEqual(["NAME    S…", "ランプ  r…", "a b     q…"]);
});

test("durations and sizes are short", () => {
  const spans = [-5, 400, 9_960, 59_400, 185_000, 7_800_000, 200 * 3_600_000];
  expect(spans.map(duration)).toEqual(["0.0 s", "0.4 s", "10 s", "59 s", "3 min 5 s", "2 h 10 min", "8 d"]);
  expect([9, 1_500, 2_400_000, 3e9].map(size)).toEqual(["9 bytes", "1.5 kB", "2.4 MB", "3.0 GB"]);
});

test("a job's sentence says what the record says", () => {
  const report = { name: "lamp", mac: "AA", compilationTime: "2026-11-25 12:00", esphomeVersion: "2026.10.0" };
  const flashed = { kind: "flashed" as const, level: "running" as const, wrote: true, flashMs: 1, report };
  expect(jobSentence(uploadJob({ state: "succeeded", ...times, outcome: flashed }))).toBe(
    "succeeded in 0.4 s: runs 2026.10.0 built 2026-11-25 12:00",
  );
  expect(jobSentence(uploadJob({ state: "succeeded", ...times, outcome: { ...flashed, wrote: false } }))).toBe(
    "succeeded in 0.4 s: nothing to do, it runs 2026.10.0 built 2026-11-25 12:00",
  );
  expect(jobSentence(compileJob({ state: "running", attempt: 2, assigned }))).toBe("running on build-1, attempt 2");
  expect(jobSentence(compileJob({ earlier: [failures.elsewhere] }))).toContain("queued again: g++ is missing");
  const outcome = { kind: "cancelled" as const, cause: "superseded" as const };
  expect(jobSentence(compileJob({ state: "cancelled", outcome }))).toContain("a newer request");
  const unknown = { kind: "failed" as const, failure: failures.notVerified };
  expect(jobSentence(uploadJob({ state: "unknown", ...times, assigned, outcome: unknown }))).toMatch(
    /^unknown in 0.4 s on build-1: /,
  );
});

test("a clean says on which agent it is, what it waits for, and what it took away", () => {
  expect(jobSentence(cleanJob({ state: "held" }))).toBe("held on build-1 until no build writes to its tree");
  const all = { on: assigned.agent, trees: "all" as const };
  expect(jobSentence(cleanJob({ state: "held", spec: all }))).toBe(
    "held on build-1 until all work of the farm has ended",
  );
  expect(jobSentence(cleanJob())).toBe("queued on build-1");
  const gone = (trees: number) =>
    jobSentence(cleanJob({ state: "succeeded", ...times, outcome: { kind: "cleaned", trees } }));
  expect([gone(0), gone(1), gone(2)]).toEqual([
    "succeeded in 0.4 s on build-1: there was no build tree",
    "succeeded in 0.4 s on build-1: took 1 build tree away",
    "succeeded in 0.4 s on build-1: took 2 build trees away",
  ]);
});

test("a reset that could not prove a death names the job, its agent, and what to do", () => {
  const failure = { kind: "death-unproven" as const, job: "01x.compile", agent: "build-2", waitedMs: 62_000 };
  const job = cleanJob({ state: "failed", outcome: { kind: "failed", failure } });
  expect(jobSentence(job)).toContain("01x.compile on build-2 was told to end and did not within 62 s");
  expect(failureLines(chainNumber(1), job)).toEqual([
    "    01x.compile may still run on build-2, so no build tree was touched",
    "    start the agent build-2 again, which ends what is left of it, and then ask once more",
  ]);
  const reset = resetOf(1, job);
  expect(codeOfChain(reset)).toBe(exitCodes.failed);
  expect(treeLines([{ chain: reset, progress: {} }], { columns: 40, now: startAt })[0]?.text).toBe(
    "every configuration",
  );
  expect(jobTable([{ chain: reset, job }], startAt)[1]).toMatch(/ {2}\* +clean +failed +build-1 /);
});

test("the history has a line for each chain with the first reason", () => {
  const failed = compileJob({
    state: "failed",
    ...times,
    assigned,
    outcome: { kind: "failed", failure: failures.final },
  });
  const cancelled = { kind: "cancelled" as const, cause: "prerequisite-failed" as const };
  const chain = installOf(1, failed, uploadJob({ state: "cancelled", endedAt: startAt + 400, outcome: cancelled }));
  const renamed = { ...chain, kind: "rename" as const, renamedFrom: configurationNamed("old") };
  expect(historyTable([renamed], startAt + 60_400)).toEqual([
    "WHEN           CHAIN             CONFIGURATION    KIND    JOBS                              TOOK   AGENTS   REASON",
    `1 min 0 s ago  ${chain.id}  old -> device 1  rename  compile failed, upload cancelled  0.4 s  build-1  the build failed (exit code 1)`,
  ]);
});

test("of each configuration the newest build or flash is tried again, if it failed", () => {
  const succeeded = { state: "succeeded" as const, ...times };
  const as = (n: number, name: string, compile: CompileJob, upload: UploadJob) => ({
    ...installOf(n, compile, upload),
    configuration: configurationNamed(name),
  });
  const chains = [
    as(1, "lamp", compileJob({ state: "failed" }), uploadJob({ state: "cancelled" })),
    as(2, "lamp", compileJob(succeeded), uploadJob(succeeded)),
    as(3, "fan", compileJob(succeeded), uploadJob({ state: "unknown" })),
    { ...resetOf(4, cleanJob({ state: "succeeded" })), configuration: configurationNamed("fan") },
    as(5, "desk", compileJob({ state: "cancelled" }), uploadJob({ state: "cancelled" })),
    as(6, "shelf", compileJob({ state: "failed" }), uploadJob({ state: "cancelled" })),
    as(7, "shelf", compileJob(), uploadJob()),
  ];
  expect(newestFailed(chains).map(({ id }) => id)).toEqual([chainNumber(3)]);
  expect(reasonAgainst(chains[1]!, undefined)).toContain("has succeeded: use install");
  expect(reasonAgainst(chains[2]!, "compile")).toContain("has succeeded: use install");
  expect(reasonAgainst(chains[2]!, undefined)).toBeUndefined();
  expect(reasonAgainst(chains[6]!, undefined)).toContain("is still under way");
  const common = { lane: "upload", name: "confirm", spec: { afterMs: 60_000 } } as const;
  for (const state of ["held", "queued", "running"] as const) {
    const asked = { ...chains[1]!, confirm: { ...common, avoid: [], earlier: [], state, attempt: 0 } };
    expect(reasonAgainst(asked, undefined)).toContain("has succeeded: use install");
  }
});

test("a device is looked for where it was, unless its address follows its name", () => {
  const at = (host: string) => installOf(1, compileJob(), { ...uploadJob(), spec: { target: targetOf(host) } });
  const place = { folder: ".", device: undefined };
  expect(addressAgain(at("lamp.local"), place)).toBeUndefined();
  expect(addressAgain({ ...at("10.0.0.1") }, place)).toEqual({ host: "10.0.0.1", port: 3232 });
  expect(addressAgain(at("10.0.0.1"), { ...place, device: { host: "10.0.0.2" } })).toEqual({ host: "10.0.0.2" });
});

test("a chain is run again with the encryption that it had, and its device asked again as late", () => {
  const place = { folder: ".", device: undefined };
  const spec = { target: withEncryption(targetOf("lamp.local"), "never") };
  const confirm = {
    lane: "upload",
    name: "confirm",
    spec: { afterMs: 5_000 },
    state: "cancelled",
    attempt: 0,
  } as const;
  const chain = {
    ...installOf(1, compileJob(), { ...uploadJob(), spec }),
    confirm: { ...confirm, avoid: [], earlier: [] },
  };
  expect(flashAgain(chain, place)).toMatchObject({ encryption: "never", confirmAfterMs: 5_000 });
  const plain = flashAgain(installOf(1, compileJob(), uploadJob()), place);
  expect([plain.encryption, plain.confirmAfterMs]).toEqual([undefined, undefined]);
});

test("a question is answered by one line, and by nothing when the input ends or the question is called off", async () => {
  const asked = async (answer: (input: PassThrough, off: AbortController) => void) => {
    const [input, errors, off] = [new PassThrough(), new PassThrough(), new AbortController()];
    const streams = { input, out: new PassThrough(), errors } as unknown as TerminalOptions;
    const line = terminalOn({ ...streams, hasColour: false, isDumb: true }).ask("sure? ", off.signal);
    answer(input, off);
    return [await line, String(errors.read())];
  };
  expect(await asked((input) => input.write("yes\nno\n"))).toEqual(["yes", "sure? "]);
  expect(await asked((input) => input.end())).toEqual(["", "sure? "]);
  expect(await asked((_input, off) => off.abort())).toEqual(["", "sure? "]);
});

test("a failed build shows the tool's lines and the next step; one that never ran has no log to name", () => {
  const outcome = { kind: "failed" as const, failure: failures.final };
  const job = compileJob({ state: "failed", ...times, outcome });
  expect(failureLines(chainNumber(1), job)).toEqual([
    "    | error: no such thing",
    `    the whole log: flashyard logs ${chainNumber(1)}.compile`,
  ]);
  expect(failureLines(chainNumber(1), compileJob({ state: "failed", outcome }))).toEqual([
    "    | error: no such thing",
  ]);
});

test("the tree shows phase, percentage and time, and no line is wider than its place", () => {
  const compile = compileJob({ state: "running", attempt: 1, assigned, startedAt: startAt });
  const chain = installOf(1, compile, uploadJob());
  const progress = { compile: { v: 1 as const, phase: "compiling", percent: 41.7 } };
  const place = { columns: 80, now: startAt + 12_000 };
  expect(treeLines([{ chain, progress }], place)).toEqual([
    { text: "device 1" },
    { text: "├─ compile running on build-1, compiling 41 %, 12 s", colour: "cyan" },
    { text: "└─ upload  held until its build has succeeded", colour: "dim" },
  ]);
  for (const { text } of treeLines([{ chain, progress }], { ...place, columns: 20 })) {
    expect(widthOf(text)).toBeLessThanOrEqual(20);
  }
});

test("a tree that is too high keeps what is under way and counts the rest", () => {
  const done = installOf(1, compileJob({ state: "succeeded", ...times }), uploadJob({ state: "succeeded", ...times }));
  const running = installOf(2, compileJob({ state: "running", assigned, startedAt: startAt }), uploadJob());
  const waiting = installOf(3, compileJob(), uploadJob());
  const all = [done, running, waiting].map((chain) => ({ chain, progress: {} }));
  const lines = treeLines(all, { columns: 80, rows: 5, now: startAt });
  expect(lines.map(({ text }) => text)).toEqual([
    "device 2",
    "├─ compile running on build-1, 0.0 s",
    "└─ upload  held until its build has succeeded",
    "… and 2 more configurations; 1 of 3 ended",
  ]);
  expect(treeLines(all, { columns: 80, rows: 1, now: startAt })).toHaveLength(1);
  expect(treeLines(all, { columns: 80, now: startAt })).toHaveLength(9);
});

test("an unknown outcome outweighs a failure, a failure an unusable file, that a cancelled job", () => {
  const { unknown, failed, badInput, cancelled, done } = exitCodes;
  expect(worstOf([done, cancelled, badInput, failed, unknown])).toBe(unknown);
  expect(worstOf([cancelled, badInput, failed])).toBe(failed);
  expect(worstOf([cancelled, badInput])).toBe(badInput);
  expect(worstOf([])).toBe(done);
  const outcome = { kind: "built" as const, manifest: manifestOfBuild("a"), buildMs: 1 };
  const built = compileJob({ state: "succeeded", ...times, outcome });
  expect(codeOfChain(installOf(1, built, uploadJob({ state: "unknown" })))).toBe(unknown);
  expect(codeOfChain(installOf(1, compileJob({ state: "failed" }), uploadJob({ state: "cancelled" })))).toBe(failed);
  expect(summarySentence([done, done, failed], 1)).toBe("2 done, 1 failed, 1 not sent");
});

test("a device is named by host, address or either with a port", () => {
  expect(deviceAddressFrom("lamp.local")).toEqual({ host: "lamp.local" });
  expect(deviceAddressFrom("10.0.0.1:3232")).toEqual({ host: "10.0.0.1", port: 3232 });
  expect(deviceAddressFrom("fd00::1")).toEqual({ host: "fd00::1" });
  expect(deviceAddressFrom("[fd00::1]:80")).toEqual({ host: "fd00::1", port: 80 });
  for (const text of ["", "a b", "lamp:0", "lamp:70000", "lamp:x", "[lamp]:80", "http://lamp"]) {
    expect(() => deviceAddressFrom(text)).toThrow("a device is named as");
  }
  expect(targetAt(targetOf("lamp.local"), { host: "10.0.0.1" })).toMatchObject({ host: "10.0.0.1", port: 3232 });
});
