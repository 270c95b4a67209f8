/** `flashyard build`: build and do not flash, with ESPHome or with any command. */
import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { ChainRequest } from "#protocol/admin.ts";
import type { Chain, Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { Configuration } from "#protocol/ids.ts";
import { CommandBuildSpec } from "#protocol/job.ts";
import { makeCommandBundle } from "#toolchain/command-bundle.ts";
import { shown } from "#cli/clean-text.ts";
import { chooseFiles } from "#cli/configuration-files.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { filesOf, makeFolder, writeImages } from "#cli/image-files.ts";
import { type Prepared, prepare, type Wishes, wishesFrom } from "#cli/preparation.ts";
import { refusalOf, showRefusals } from "#cli/refusal.ts";
import type { Session } from "#cli/session.ts";
import { newChainId, submitAndFollow } from "#cli/submit.ts";

export interface BuildOptions {
  readonly all?: boolean;
  readonly folder?: string;
  readonly esphomeVersion?: string;
  readonly on?: string;
  readonly priority?: Priority;
  readonly rebuild?: boolean;
  readonly debug?: boolean;
  readonly output?: string;
  readonly artifact: readonly string[];
  readonly skip: readonly string[];
  readonly platform?: string;
  readonly name?: string;
  readonly detach?: boolean;
  readonly json?: boolean;
}

/** @param argv what stands behind `--`; undefined when there is no `--` */
export async function runBuild(
  session: Session,
  inputs: readonly string[],
  argv: readonly string[] | undefined,
  options: BuildOptions,
): Promise<ExitCode> {
  const { json: isJson = false, detach: isDetached = false, output } = options;
  if (output !== undefined && isDetached) {
    throw new UsageError("output-and-detach", "--output waits for the build: leave out --detach");
  }
  const prepareWith =
    argv === undefined ? await esphomeBuilds(inputs, options) : await commandBuild(inputs, argv, options);
  await using farm = await Farm.open(session);
  if (output !== undefined) await makeFolder(output);
  const { requests, refused } = await prepareWith(session, farm);
  session.interrupted.throwIfAborted();
  showRefusals(session.terminal, refused, isJson);
  const { code, chains } = await submitAndFollow(session, farm, requests, { isDetached, isJson, refused });
  if (output === undefined) return code;
  const isAlone = inputs.length === 1 && options.all !== true;
  const written: ExitCode[] = [];
  for (const chain of chains)
    written.push(await writeBuild(session, farm, chain, isAlone ? output : join(output, chain.configuration)));
  return code === exitCodes.done ? worstOf(written) : code;
}

type Preparation = (session: Session, farm: Farm) => Promise<Prepared>;

async function esphomeBuilds(files: readonly string[], options: BuildOptions): Promise<Preparation> {
  const { all: isAll = false, folder, debug: keepsDebug } = options;
  const [first = ""] = files;
  const isFolder = (await stat(first).catch(() => undefined))?.isDirectory() === true;
  const isCommand =
    options.artifact.length + options.skip.length > 0 || (options.platform ?? options.name) !== undefined;
  if (isFolder || isCommand) {
    const example = `flashyard build ${isFolder ? first : "DIR"} --artifact 'build/*.bin' -- make all`;
    throw new UsageError("no-command", `a folder is built with a command behind two dashes: ${example}`);
  }
  const chosen = await chooseFiles({ files, isAll, folder });
  const wanted = chosen.map(({ file, configuration }) => ({ file, configuration, kind: "build" as const }));
  const wishes = { ...wishesOf(options), keepsDebug };
  return (session, farm) => prepare(session, farm, wanted, wishes);
}

function wishesOf({ on, ...options }: BuildOptions): Wishes {
  return wishesFrom(on === undefined ? options : { ...options, buildOn: on }, "--on");
}

/** The folder is packed before the farm is asked for anything: it may be refused. */
async function commandBuild(
  inputs: readonly string[],
  argv: readonly string[],
  options: BuildOptions,
): Promise<Preparation> {
  const [folder] = inputs;
  if (folder === undefined || inputs.length > 1 || options.all === true) {
    throw new UsageError("one-folder", "a command builds one folder: flashyard build DIR --artifact GLOB -- COMMAND…");
  }
  if (argv.length === 0) throw new UsageError("no-command", "there is no command behind the two dashes");
  if (options.artifact.length === 0) {
    throw new UsageError("no-artifact", "name what the build makes with --artifact, e.g. --artifact 'build/*.bin'");
  }
  const configuration = Configuration.safeParse(options.name ?? basename(resolve(folder)));
  if (!configuration.success) {
    const rule = configuration.error.issues[0]?.message ?? "";
    throw new UsageError("bad-name", `the build needs another --name: ${rule}`);
  }
  const { buildOn, isRebuild, priority } = wishesOf(options);
  const bundle = await makeCommandBundle(folder, { skip: options.skip });
  if (!bundle.ok) {
    const refused = refusalOf(folder, bundle);
    return async () => ({ requests: [], refused: refused === undefined ? [] : [refused] });
  }
  const spec = CommandBuildSpec.safeParse({
    driver: "command",
    bundle: bundle.digest,
    argv,
    artifacts: options.artifact,
    ...(options.platform === undefined ? {} : { platform: options.platform }),
  });
  if (!spec.success) {
    const issue = spec.error.issues[0];
    throw new UsageError(
      "bad-command",
      `${issue?.path.join(" ") ?? "command"}: ${issue?.message ?? "it cannot be used"}`,
    );
  }
  return async (session, farm) => {
    await farm.bundles.put(bundle.digest, bundle.bytes);
    const id = newChainId(session);
    const request: ChainRequest = {
      id,
      kind: "build",
      configuration: configuration.data,
      build: spec.data,
      ...(buildOn === undefined ? {} : { route: { on: buildOn, labels: [] } }),
      ...(isRebuild === true ? { isRebuild } : {}),
      ...(priority === undefined ? {} : { priority }),
    };
    return { requests: [request], refused: [] };
  };
}

async function writeBuild(session: Session, farm: Farm, { compile }: Chain, folder: string): Promise<ExitCode> {
  if (compile?.outcome?.kind !== "built") return exitCodes.done;
  const { manifest } = compile.outcome;
  await makeFolder(folder);
  const lost = await writeImages(farm, manifest, folder);
  const names = filesOf(manifest)
    .map(({ name }) => name)
    .join(", ");
  session.terminal.note(shown(lost ?? `${names} and manifest.json are in ${folder}`));
  return lost === undefined ? exitCodes.done : exitCodes.failed;
}
