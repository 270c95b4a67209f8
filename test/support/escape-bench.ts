/** A build that tries to get out, through the real driver: an agent's folders with secrets in them, and the attempts of `escapes.py`. */
import { cp, mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect } from "vitest";
import type { BuildRequest, BuildResult } from "#compile-agent/build.ts";
import { buildWithCommand } from "#compile-agent/command-driver.ts";
import { chooseSandbox } from "#compile-agent/sandbox/choose.ts";
import type { Sandbox, SandboxPlace, SandboxSettings } from "#compile-agent/sandbox/sandbox.ts";
import { Workspace } from "#compile-agent/workspace.ts";
import type { SandboxLevel } from "#protocol/sandbox.ts";
import { Configuration } from "#protocol/ids.ts";
import { CommandBuildSpec } from "#protocol/job.ts";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { inflate } from "#test/support/bundle-tar.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const fixture = join(import.meta.dirname, "../fixtures/sandbox/escapes.py");
export const plainSettings: SandboxSettings = {
  memoryBytesMax: 1_000_000_000,
  processesMax: 60,
  diskBytesMax: 100_000_000,
  slots: 1,
  hasNetwork: true,
  sharesTools: true,
  readable: [],
  buildUser: "flashyard-build",
  engine: "docker",
};

export interface AttemptOptions extends Partial<BuildRequest<CommandBuildSpec>> {
  readonly settings?: Partial<SandboxSettings>;
  readonly artifacts?: string[];
  readonly name?: string;
}

export class EscapeBench {
  readonly #folder: TemporaryFolder;
  readonly #level: SandboxLevel;
  readonly #settings: SandboxSettings;
  readonly home: string;
  readonly agent: string;
  readonly project: string;
  readonly workspace: Workspace;
  readonly place: SandboxPlace;
  /** What the builds have said. */
  readonly lines: string[] = [];

  constructor(folder: TemporaryFolder, level: SandboxLevel, settings: Partial<SandboxSettings>) {
    this.#folder = folder;
    this.#level = level;
    this.#settings = { ...plainSettings, ...settings };
    this.home = folder.path;
    this.agent = join(this.home, "agent");
    this.project = join(this.home, "project");
    const buildFolder = join(this.agent, "build");
    this.workspace = new Workspace(buildFolder);
    this.place = { agentHome: this.agent, buildFolder, sharedHome: join(this.home, "cache/builds-home") };
  }

  static async open(level: SandboxLevel, settings: Partial<SandboxSettings> = {}): Promise<EscapeBench> {
    const bench = new EscapeBench(await temporaryFolder(), level, settings);
    await mkdir(bench.project);
    await cp(fixture, join(bench.project, "escapes.py"));
    return bench;
  }

  sandbox(settings: Partial<SandboxSettings> = {}): Promise<Sandbox> {
    return chooseSandbox(this.#level, { ...this.#settings, ...settings }, this.place);
  }

  /** A file of the agent's with a secret in it. */
  async secret(...path: string[]): Promise<string> {
    const file = join(this.agent, ...path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, "the secret\n");
    return file;
  }

  /** A file with a secret in another configuration's tree. */
  async secretInTree(name: string): Promise<string> {
    const tree = { version: "command", configuration: Configuration.parse(name) };
    await this.workspace.withTree(tree, undefined, ({ source }) =>
      writeFile(join(source, "other.txt"), "the secret\n"),
    );
    const trees = join(this.agent, "build/trees");
    const [version] = await readdir(trees);
    const place = (await readdir(join(trees, version!))).find((entry) => entry.startsWith(name))!;
    return join(trees, version!, place, "source", "other.txt");
  }

  async run(argv: string[], options: AttemptOptions = {}): Promise<BuildResult> {
    const { settings, artifacts = ["escapes.py"], name = "lamp", ...more } = options;
    const bundle = await makeCommandBundle(this.project);
    if (!bundle.ok) throw new Error(JSON.stringify(bundle));
    const inflated = await inflate(bundle.bytes, this.home);
    if (!inflated.ok) throw new Error(JSON.stringify(inflated));
    return buildWithCommand({
      spec: CommandBuildSpec.parse({ driver: "command", bundle: bundle.digest, argv, artifacts }),
      tar: inflated.tar,
      configuration: Configuration.parse(name),
      workspace: this.workspace,
      sandbox: options.sandbox ?? (await this.sandbox(settings)),
      onLine: (line) => this.lines.push(line),
      ...more,
    });
  }

  attempt(name: string, args: string[] = [], options: AttemptOptions = {}): Promise<BuildResult> {
    return this.run(["python3", "escapes.py", name, ...args], options);
  }

  /** The attempt was really made, to its end, and came to nothing. */
  async keptIn(name: string, args: string[] = [], options: AttemptOptions = {}): Promise<void> {
    expect(await this.attempt(name, args, options), this.lines.join("\n")).toMatchObject({ ok: true });
    expect(this.lines).toContain(`tried ${name}`);
    expect(this.lines.filter((line) => line.startsWith("ESCAPED"))).toEqual([]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
