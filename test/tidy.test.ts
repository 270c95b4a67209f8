/** The rules of the house that a linter cannot express. */
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { farmVersion } from "#protocol/version.ts";

const root = join(import.meta.dirname, "..");
/** Folders that hold no source of ours. */
const notOurs = /^(node_modules|\.git|test\/protocol\/__snapshots__)(\/|$)/;
const linesMax = 400;

interface Source {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
}

let sources: readonly Source[];
let rooms: readonly Source[];
let tests: readonly Source[];

beforeAll(async () => {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && /\.(ts|tsx|js|mjs|cjs)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !notOurs.test(path) && !path.includes("/node_modules/"));
  sources = await Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(root, path), "utf8") })));
  tests = sources.filter(({ path }) => path.endsWith(".test.ts"));
  rooms = sources.filter(({ path }) => !path.startsWith("test/") && path.includes("/"));
});

/** The paths of the sources that break a rule. */
function breaking(among: readonly Source[], breaks: (source: Source) => boolean): readonly string[] {
  return among.filter(breaks).map(({ path }) => path);
}

/** Code without comments and without what stands in quotes. */
function bare(text: string): string {
  return text
    .replaceAll(/\/\*[\s\S]*?\*\//g, "")
    .replaceAll(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""')
    .replaceAll(/(^|\s)\/\/.*$/gm, "");
}

test("there is something to check", () => {
  expect(rooms.length).toBeGreaterThan(50);
  expect(tests.length).toBeGreaterThan(30);
});

test("no file is longer than 400 lines", () => {
  expect(breaking(sources, ({ text }) => text.split("\n").length - 1 > linesMax)).toEqual([]);
});

test("no file and no folder is called utils, common, helpers, shared or lib", () => {
  const vague = /^(utils?|common|helpers?|shared|libs?|misc)(\.|$)/;
  expect(breaking(sources, ({ path }) => path.split("/").some((part) => vague.test(part)))).toEqual([]);
});

test("every source file opens with a comment that says what it owns", () => {
  const opening = /^(#!.*\n)?\/\*\*/;
  const owners = sources.filter(({ path }) => !path.endsWith(".test.ts") && path.includes("/"));
  expect(breaking(owners, ({ text }) => !opening.test(text))).toEqual([]);
});

test("only main files read the environment", () => {
  const allowed = /(^|\/)main\.ts$|^bench\/program\.ts$|^actor\/subprocess\.ts$/;
  expect(breaking(rooms, ({ path, text }) => !allowed.test(path) && /\bprocess\.env\b/.test(bare(text)))).toEqual([]);
});

test("a child's environment is the only reason to read it outside of a main file", () => {
  const subprocess = rooms.find(({ path }) => path === "actor/subprocess.ts");
  const [before, after] = (subprocess?.text ?? "").split("export function plainEnvironment");
  expect(bare(before ?? "")).not.toContain("process.env");
  expect(bare(after ?? "").match(/\bprocess\.env\b/g)).toHaveLength(1);
});

test("only main files handle signals and set the exit code", () => {
  const main = /(^|\/)main\.ts$|^bench\/program\.ts$/;
  const signals = /\bprocess\.(on|once|addListener)\b/;
  const ends = /\bprocess\.(exitCode|exit)\b/;
  // Signals become one orderly end there, on behalf of the main files that call it.
  const shutdown = "actor/shutdown.ts";
  const others = rooms.filter(({ path }) => !main.test(path) && path !== shutdown);
  expect(breaking(others, ({ text }) => signals.test(bare(text)) || ends.test(bare(text)))).toEqual([]);
  expect(breaking(others, ({ text }) => text.includes("#actor/shutdown.ts"))).toEqual([]);
});

test("no test is left out, and none is run alone", () => {
  const marks = /\b(test|it|describe|suite)\.(only|skip|todo|fails|skipIf|runIf)\b|\bx(it|test|describe)\(/;
  expect(breaking(tests, ({ text }) => marks.test(bare(text)))).toEqual([]);
});

test("no test sleeps and nobody ignores a type error", () => {
  const others = tests.filter(({ path }) => path !== "test/tidy.test.ts");
  const sleeping = /setTimeout\(resolve|await systemClock\.pause\(|timers\/promises/;
  expect(breaking(others, ({ text }) => sleeping.test(text))).toEqual([]);
  const ignoring = /@ts-(ignore|nocheck|expect-error)/;
  expect(breaking(sources, ({ path, text }) => path !== "test/tidy.test.ts" && ignoring.test(text))).toEqual([]);
});

test("every room has a map entry in the imports of package.json, and nothing imports a test", async () => {
  const importing = /from "#test\/|import\("#test\//;
  expect(breaking(rooms, ({ text }) => importing.test(text))).toEqual([]);
  const { imports } = await packageFile();
  const folders = new Set(rooms.map(({ path }) => path.split("/")[0] ?? ""));
  const missing = [...folders].filter((folder) => imports[`#${folder}/*`] === undefined && folder !== "examples");
  expect(missing).toEqual([]);
});

const PackageFile = z.object({
  version: z.string(),
  imports: z.record(z.string(), z.string()),
  dependencies: z.record(z.string(), z.string()),
  devDependencies: z.record(z.string(), z.string()),
});

async function packageFile(): Promise<z.infer<typeof PackageFile>> {
  return PackageFile.parse(JSON.parse(await readFile(join(root, "package.json"), "utf8")));
}

test("the package and the protocol name the same version", async () => {
  expect((await packageFile()).version).toBe(farmVersion);
});

test("every dependency is exact and used", async () => {
  /** Used by a script, by the machine, or by another package (bullmq loads ioredis) rather than by an import. */
  const tools = new Set(["node", "@types/node", "oxfmt", "oxlint", "oxlint-tsgolint", "typescript", "ioredis"]);
  const { dependencies, devDependencies } = await packageFile();
  const all = Object.entries({ ...dependencies, ...devDependencies });
  expect(all.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([]);
  const imported = (name: string) =>
    sources.some(
      ({ text }) =>
        text.includes(`from "${name}"`) ||
        text.includes(`from "${name}/`) ||
        text.includes(`import "${name}"`) ||
        text.includes(`import("${name}`),
    );
  expect(all.map(([name]) => name).filter((name) => !tools.has(name) && !imported(name))).toEqual([]);
});

test("what runs on a farm is a dependency, not a tool of development", async () => {
  const { dependencies } = await packageFile();
  const known = new Set(Object.keys(dependencies));
  const foreign = /from "((?:@[\w-]+\/)?[\w-]+)(?:\/[^"]*)?"/g;
  const farm = rooms.filter(({ path }) => !/^(bench|demo|examples)\//.test(path));
  const missing = farm.flatMap(({ path, text }) =>
    [...text.matchAll(foreign)].flatMap(([, name]) => (known.has(name ?? "") ? [] : [`${path}: ${name ?? ""}`])),
  );
  expect(missing).toEqual([]);
});

test("a fixture, a support file and a test lie where their kind lies", () => {
  const misplaced = breaking(tests, ({ path }) => /^test\/(fixtures|support)\//.test(path));
  expect(misplaced).toEqual([]);
  const strays = sources.filter(({ path }) => !path.includes("/")).map(({ path }) => basename(path));
  expect(strays.filter((name) => !name.endsWith(".config.ts"))).toEqual([]);
});
