import { execFileSync } from "node:child_process";
import { chmod, cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { isGroupAlive, GroupLedger } from "#actor/process-group.ts";
import type { BuildRequest } from "#compile-agent/build.ts";
import { buildWithCommand } from "#compile-agent/command-driver.ts";
import type { BuildProgress } from "#compile-agent/output.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import { Configuration } from "#protocol/ids.ts";
import { CommandBuildSpec } from "#protocol/job.ts";
import { stageLimits } from "#protocol/limits.ts";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { inflate } from "#test/support/bundle-tar.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const example = join(import.meta.dirname, "../../examples/command-c");
let home: TemporaryFolder;
let project: string;
let workspace: Workspace;

beforeEach(async () => {
  home = await temporaryFolder();
  project = join(home.path, "project");
  workspace = new Workspace(join(home.path, "agent"));
  await cp(example, project, { recursive: true, filter: (source) => !source.endsWith("build") });
});
afterEach(() => home[Symbol.asyncDispose]());

async function tarOf(bytes: Uint8Array): Promise<string> {
  const inflated = await inflate(bytes, home.path);
  if (!inflated.ok) throw new Error(JSON.stringify(inflated));
  return inflated.tar;
}

async function build(argv: string[], artifacts: string[], more: Partial<BuildRequest<CommandBuildSpec>> = {}) {
  const bundle = await makeCommandBundle(project);
  if (!bundle.ok) throw new Error(JSON.stringify(bundle));
  return buildWithCommand({
    spec: CommandBuildSpec.parse({ driver: "command", bundle: bundle.digest, argv, artifacts }),
    tar: await tarOf(bundle.bytes),
    configuration: Configuration.parse("blink"),
    workspace,
    ...more,
  });
}

const cc = ["cc", "-o", "blink.elf", "src/blink.c"];
const resultFolders = () => workspace.leftResults();

test("a C program is built, and runs", async () => {
  const progress: BuildProgress[] = [];
  const result = await build(cc, ["*.elf"], { onProgress: (said) => progress.push(said) });
  if (!result.ok) throw new Error(JSON.stringify(result));
  const image = result.images[0]!;
  expect(result.manifest).toEqual({
    v: 1,
    tool: { name: "cc", version: "unknown" },
    platform: "generic",
    images: [{ role: "other", name: "blink.elf", digest: image.digest, bytes: image.bytes }],
  });
  expect(await readdir(result.folder)).toEqual([image.digest]);
  await chmod(image.path, 0o755);
  expect(execFileSync(image.path, { encoding: "utf8" })).toBe("on\noff\non\n");
  expect(progress).toEqual([{ phase: "compiling" }]);
});

test("the tree stays warm: make has nothing to do for the same bundle and builds for another", async () => {
  const lines: string[] = [];
  const onLine = (line: string) => lines.push(line);
  expect(await build(["make"], ["build/*.bin"], { onLine })).toMatchObject({ ok: false });
  expect(await build(["make"], ["build/*.elf"], { onLine })).toMatchObject({ ok: true, isWarm: false });
  expect(lines.join()).toContain("src/blink.c");
  lines.length = 0;
  expect(await build(["make"], ["build/*.elf"], { onLine })).toMatchObject({ ok: true, isWarm: true });
  expect(lines.join()).toContain("up to date");
  await writeFile(join(project, "src/blink.h"), "#define BLINKS 1\n");
  const changed = await build(["make"], ["build/*.elf"], { onLine });
  if (!changed.ok) throw new Error(JSON.stringify(changed));
  await chmod(changed.images[0]!.path, 0o755);
  expect(execFileSync(changed.images[0]!.path, { encoding: "utf8" })).toBe("on\n");
});

test("what a build prints of its secrets is shown by their names, and so is what is said of its failure", async () => {
  await writeFile(join(project, "secrets.yaml"), "wifi: correct horse\n");
  const lines: string[] = [];
  const prints = ["sh", "-c", "echo with correct horse; echo 'a.c:1:1: error: \"correct horse\"' >&2; exit 1"];
  const result = await build(prints, ["*.elf"], { onLine: (line) => lines.push(line) });
  expect(lines.toSorted()).toEqual(['a.c:1:1: error: "«secret wifi»"', "with «secret wifi»"]);
  expect(result).toMatchObject({ failure: { kind: "compiler-exit", tail: ['a.c:1:1: error: "«secret wifi»"'] } });
});

test("a compiler error comes with its own lines", async () => {
  await writeFile(join(project, "src/blink.h"), "#define BLINKS nonsense\n");
  const result = await build(cc, ["*.elf"]);
  if (result.ok || result.aborted || result.failure.kind !== "compiler-exit") throw new Error(JSON.stringify(result));
  expect(result.failure.exitCode).toBe(1);
  expect(result.failure.tail.join("\n")).toMatch(/error: .nonsense. undeclared/);
  expect(await resultFolders()).toEqual([]);
});

test("a command that is not there is toolchain-missing", async () => {
  expect(await build(["no-such-compiler"], ["*"])).toMatchObject({
    failure: { kind: "toolchain-missing", missing: "no-such-compiler" },
  });
});

test("the command is not run by a shell, and nothing of the agent's environment reaches it", async () => {
  process.env["FLASHYARD_SECRET"] = "secret";
  const lines: string[] = [];
  expect(
    await build(["echo", "$HOME; touch evil"], ["README.md"], { onLine: (line) => lines.push(line) }),
  ).toMatchObject({ ok: true });
  expect(lines).toEqual(["$HOME; touch evil"]);
  lines.length = 0;
  await build(["env"], ["README.md"], { onLine: (line) => lines.push(line) });
  delete process.env["FLASHYARD_SECRET"];
  expect(lines.join("\n")).not.toContain("FLASHYARD");
  expect(lines).toContain("NO_COLOR=1");
});

test("artifacts are regular files inside the folder, each glob at least one, and no two of one name", async () => {
  const detailOf = async (script: string, artifacts: string[]) => {
    const result = await build(["sh", "-c", script], artifacts);
    return result.ok ? result.manifest.images.map(({ name }) => name) : JSON.stringify(result);
  };
  expect(await detailOf("true", ["*.elf"])).toContain("nothing matches *.elf");
  expect(await detailOf("true", ["README.md", "*.elf"])).toContain("nothing matches *.elf");
  expect(await detailOf("ln -sf /etc/passwd link.elf", ["*.elf"])).toContain("nothing matches");
  expect(await detailOf("ln -sfn /etc out", ["out/passwd"])).toMatch(/leads out|nothing matches/);
  expect(await detailOf("true", ["../*"])).toContain("leads out of the build folder");
  expect(await detailOf("true", ["/etc/passwd"])).toContain("leads out of the build folder");
  expect(await detailOf("true", ["**/files.json"])).toContain("nothing matches");
  expect(await detailOf("seq 20 | while read i; do touch a$i.bin; done", ["*.bin"])).toContain("more than 16 files");
  expect(await detailOf("mkdir -p a b; echo 1 > a/x.hex; echo 2 > b/x.hex", ["*/x.hex"])).toEqual([
    "a-x.hex",
    "b-x.hex",
  ]);
  expect(await detailOf("truncate -s 65M huge.img", ["huge.img"])).toContain("at most 67108864 are allowed");
});

test("silence and total time have limits", async () => {
  const compiling = (silenceMs: number, totalMs: number) => ({
    limits: { ...stageLimits, compiling: { silenceMs, totalMs } },
  });
  const deadline = { kind: "deadline", stage: "compiling", effect: "none" };
  expect(await build(["sleep", "600"], ["*"], compiling(200, 60_000))).toMatchObject({
    failure: { ...deadline, limit: "silence", limitMs: 200 },
  });
  const talksThenSilent = ["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exec sleep 600"];
  const lines: string[] = [];
  const onLine = (line: string) => lines.push(line);
  expect(await build(talksThenSilent, ["*"], { ...compiling(400, 60_000), onLine })).toMatchObject({
    failure: { ...deadline, limit: "silence" },
  });
  expect(lines).toEqual(["1", "2", "3", "4", "5"]);
  const chatty = ["sh", "-c", "while :; do echo x; sleep 0.05; done"];
  expect(await build(chatty, ["*"], compiling(5_000, 300))).toMatchObject({
    failure: { ...deadline, limit: "total", limitMs: 300 },
  });
});

test("calling it off ends the whole group, and the next build of the tree starts", async () => {
  const ledger = new GroupLedger(join(home.path, "groups"));
  const abort = new AbortController();
  let pid = 0;
  const script = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo pid $$; wait";
  const result = await build(["sh", "-c", script], ["*"], {
    signal: abort.signal,
    ledger,
    onLine: (line) => {
      pid = Number(line.split(" ")[1]);
      abort.abort();
    },
  });
  expect(result).toEqual({ ok: false, aborted: true });
  expect(pid).toBeGreaterThan(0);
  expect(isGroupAlive(pid)).toBe(false);
  expect(await readdir(join(home.path, "groups"))).toEqual([]);
  expect(await build(cc, ["*.elf"])).toMatchObject({ ok: true });
});

test("a full disk is told from a failed build", async () => {
  const full = "echo 'ld: final link failed: No space left on device' >&2; exit 1";
  expect(await build(["sh", "-c", full], ["*"])).toMatchObject({ failure: { kind: "disk-full" } });
});

test("what the example's page says is what the example needs", async () => {
  const page = await readFile(join(example, "README.md"), "utf8");
  const argv = /`(cc [^`]*)`/.exec(page)![1]!.split(" ");
  const pattern = /glob `([^`]*)`/.exec(page)![1]!;
  expect(await build(argv, [pattern])).toMatchObject({ ok: true });
});
