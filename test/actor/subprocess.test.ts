import { join } from "node:path";
import { expect, test } from "vitest";
import { isGroupAlive } from "#actor/process-group.ts";
import { plainEnvironment, type ProcessOptions, runProcess } from "#actor/subprocess.ts";
import { logLineBytesMax } from "#protocol/limits.ts";
import { jumpingClock } from "#test/support/jumping-clock.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const shell = (script: string, options: Partial<ProcessOptions> = {}) =>
  runProcess({ argv: ["sh", "-c", script], env: plainEnvironment(), ...options });

/** A leader and its child, both deaf to SIGTERM; the leader says its pid. */
const deafFamily = "trap '' TERM; (trap '' TERM; echo child; sleep 600) & echo pid $$; wait; sleep 600";

test("a command ends with its exit code, and its last lines of both streams are kept", async () => {
  const result = await shell("echo out; echo err >&2; exit 3");
  expect(result).toMatchObject({ end: { kind: "exited", exitCode: 3 }, allGone: true });
  expect([...result.tail].sort()).toEqual(["err", "out"]);
  expect(await shell("true")).toMatchObject({ end: { kind: "exited", exitCode: 0 }, tail: [] });
});

test("a command that kills itself ends with its signal", async () => {
  expect(await shell("kill -SEGV $$")).toMatchObject({ end: { kind: "signalled", signal: "SIGSEGV" } });
});

test("a program that is not there, a file that cannot run and an empty command are not started", async () => {
  const env = plainEnvironment();
  const notFound = { kind: "not-started", reason: "not-found" };
  expect((await runProcess({ argv: ["no-such-program"], env })).end).toMatchObject(notFound);
  expect((await runProcess({ argv: ["/etc/passwd"], env })).end).toMatchObject({
    kind: "not-started",
    reason: "other",
  });
  expect((await runProcess({ argv: [], env })).end).toMatchObject({ kind: "not-started", reason: "other" });
});

test("silence ends a command, and every word of it postpones that", async () => {
  const silence = { kind: "deadline", limit: "silence", limitMs: 300 };
  const result = await shell("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; sleep 600", { silenceMs: 300 });
  expect(result.end).toEqual(silence);
  expect(result.tail).toEqual(["1", "2", "3", "4", "5"]);
});

test("the total time ends a command that never stops talking", async () => {
  const result = await shell("while :; do echo x; sleep 0.02; done", { silenceMs: 10_000, totalMs: 200 });
  expect(result.end).toEqual({ kind: "deadline", limit: "total", limitMs: 200 });
  expect(result.allGone).toBe(true);
});

test("the signal kills the whole group, grandchildren that ignore SIGTERM included", async () => {
  const abort = new AbortController();
  let pid = 0;
  const heard: string[] = [];
  const result = await shell(deafFamily, {
    signal: abort.signal,
    graceMs: 50,
    onLine: (line) => {
      heard.push(line);
      if (line.startsWith("pid ")) pid = Number(line.slice(4));
      if (heard.length === 2) abort.abort();
    },
  });
  expect(result).toMatchObject({ end: { kind: "aborted" }, allGone: true });
  expect(pid).toBeGreaterThan(0);
  expect(isGroupAlive(pid)).toBe(false);
});

test("a signal that has fired before starts nothing", async () => {
  await using folder = await temporaryFolder();
  const result = await shell("touch made", { cwd: folder.path, signal: AbortSignal.abort() });
  expect(result).toMatchObject({ end: { kind: "aborted" }, durationMs: expect.any(Number) });
  expect((await shell("ls", { cwd: folder.path })).tail).toEqual([]);
});

test("children that the leader left behind die with it", async () => {
  let pid = 0;
  const result = await shell("sleep 600 & echo $$", { onLine: (line) => (pid = Number(line)) });
  expect(result).toMatchObject({ end: { kind: "exited", exitCode: 0 }, allGone: true });
  expect(isGroupAlive(pid)).toBe(false);
});

test("a dead orphan that nobody has reaped yet does not keep the command waiting", async () => {
  const { durationMs } = await shell("sleep 600 & echo done", { graceMs: 60_000 });
  expect(durationMs).toBeLessThan(10_000);
});

test("a process that has left the group and keeps the pipes open is not waited for", async () => {
  await using folder = await temporaryFolder();
  let daemon = 0;
  const result = await shell(
    "setsid sh -c 'echo $$; touch ready; sleep 60' & until [ -e ready ]; do sleep 0.01; done",
    {
      cwd: folder.path,
      clock: jumpingClock(),
      onLine: (line) => (daemon = Number(line)),
    },
  );
  expect(result).toMatchObject({ end: { kind: "exited", exitCode: 0 }, allGone: true });
  expect(daemon).toBeGreaterThan(0);
  process.kill(-daemon, "SIGKILL");
});

test("the environment is exactly what is given", async () => {
  process.env["FLASHYARD_SECRET"] = "secret";
  const lines: string[] = [];
  await runProcess({ argv: ["/usr/bin/env"], env: { A: "1", B: "two words" }, onLine: (line) => lines.push(line) });
  expect(lines.sort()).toEqual(["A=1", "B=two words"]);
  expect(Object.keys(plainEnvironment({ C: "3" }))).toEqual(expect.arrayContaining(["PATH", "C"]));
  expect(plainEnvironment()).not.toHaveProperty("FLASHYARD_SECRET");
  delete process.env["FLASHYARD_SECRET"];
});

test("the tail keeps forty lines of four hundred characters", async () => {
  const { tail } = await shell("i=0; while [ $i -lt 50 ]; do echo $i; i=$((i+1)); done; printf '%0500d\\n' 0");
  expect(tail).toHaveLength(40);
  expect(tail[0]).toBe("11");
  expect(tail.at(-1)).toBe("0".repeat(400));
});

test("a line without an end is cut, and bytes come as they were written", async () => {
  const lengths: number[] = [];
  let bytes = 0;
  await shell("head -c 10000 /dev/zero | tr '\\0' x", {
    onLine: (line) => lengths.push(line.length),
    onBytes: (chunk) => (bytes += chunk.length),
  });
  expect(Math.max(...lengths)).toBeLessThanOrEqual(logLineBytesMax + 2);
  expect(bytes).toBe(10_000);
});

test("lines say which stream they came on, and input is read to its end", async () => {
  const lines: string[] = [];
  const onLine = (line: string, stream: string) => lines.push(`${stream} ${line}`);
  const result = await shell("cat; cat >&2 /dev/null; echo bad >&2", { input: "a\nb", onLine });
  expect(result.end).toEqual({ kind: "exited", exitCode: 0 });
  expect(lines.sort()).toEqual(["stderr bad", "stdout a", "stdout b"]);
});

test("a command runs in the folder that is given, and is told by its pid", async () => {
  await using folder = await temporaryFolder();
  let started = 0;
  const { tail } = await shell("pwd; echo $$", { cwd: folder.path, onStart: (pid) => (started = pid) });
  expect(tail).toEqual([join(folder.path), String(started)]);
});
