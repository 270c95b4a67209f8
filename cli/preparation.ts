/** Makes requests of configuration files: read by ESPHome, packed with all that their build needs, stored in the farm. */
import { availableParallelism } from "node:os";
import type { AgentView, ChainRequest } from "#protocol/admin.ts";
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { describeFailure } from "#protocol/failure.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { ObjectStore } from "#bus/object-store.ts";
import { makeBundle, missingConfiguration } from "#toolchain/bundle.ts";
import { readConfiguration } from "#toolchain/configuration.ts";
import { type EsphomeEnvironment, EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { shown } from "#cli/clean-text.ts";
import type { ConfigurationFile } from "#cli/configuration-files.ts";
import { type DeviceSettings, settingsOf } from "#cli/device-settings.ts";
import { versionFor, wishFrom } from "#cli/esphome-version.ts";
import type { Farm } from "#cli/farm.ts";
import { agentNamed, type FlashWishes, type UploadHalf, uploadHalf } from "#cli/flash-wishes.ts";
import { type Refusal, refusal, refusalFor, refusalOf } from "#cli/refusal.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { newChainId } from "#cli/submit.ts";

/** A configuration file and what is to be done with it. */
export interface WantedRequest extends ConfigurationFile {
  readonly kind: "install" | "build";
  readonly flash?: FlashWishes | undefined;
}

/** What the user said for all files; it counts for more than what a file says (`device-settings.ts`). */
export interface Wishes {
  readonly esphomeVersion?: string | undefined;
  readonly buildOn?: AgentId | undefined;
  readonly priority?: Priority | undefined;
  readonly isRebuild?: boolean | undefined;
  readonly keepsDebug?: boolean | undefined;
}

/**
 * The options of a command as wishes.
 * @param buildOnOption as the command calls it @throws UsageError for a version or an agent's name that cannot be
 */
export function wishesFrom(
  options: {
    readonly esphomeVersion?: string;
    readonly priority?: Priority;
    readonly rebuild?: boolean;
    readonly buildOn?: string;
  },
  buildOnOption = "--build-on",
): Wishes {
  const { esphomeVersion, priority, rebuild: isRebuild, buildOn } = options;
  return {
    esphomeVersion: esphomeVersion === undefined ? undefined : wishFrom(esphomeVersion),
    buildOn: buildOn === undefined ? undefined : agentNamed(buildOnOption, buildOn),
    priority,
    isRebuild,
  };
}

export interface Prepared {
  readonly requests: readonly ChainRequest[];
  readonly refused: readonly Refusal[];
}

/** What one file came to; undefined when it was called off. */
type One = { readonly request: ChainRequest } | { readonly refusal: Refusal } | undefined;

/**
 * As many files at a time as this machine has processors; one that is refused does not stop the others. Each version of ESPHome reads
 * what it will build.
 * @throws UsageError `no-environment` when there is no ESPHome to read them with; UnavailableError when the farm goes away
 */
export async function prepare(
  session: Session,
  farm: Farm,
  files: readonly WantedRequest[],
  wishes: Wishes,
): Promise<Prepared> {
  const agents = await farm.ask({ v: 1, kind: "agents" }, "agents").then((answer) => answer.agents);
  const looked = await Promise.all(files.map((wanted) => lookAt(wanted, wishes, agents)));
  const planned = looked.flatMap((one) => ("version" in one ? [one] : []));
  const made: Exclude<One, undefined>[] = [];
  for (const [version, some] of Map.groupBy(planned, (one) => one.version)) {
    const env = await environment(session, version);
    session.terminal.note(`reading ${count(some.length, "configuration")} with ESPHome ${env.version}`);
    const bundles = farm.bundles;
    const results = await inParallel(some, availableParallelism(), (one) => prepareOne(session, env, bundles, one));
    made.push(...results.filter((one) => one !== undefined));
  }
  const priority = wishes.priority ?? (files.length > 1 ? "bulk" : "interactive");
  return {
    requests: made.flatMap((one) => ("request" in one ? [{ ...one.request, priority }] : [])),
    refused: [...looked, ...made].flatMap((one) => ("refusal" in one ? [one.refusal] : [])),
  };
}

/** A file that can be read, and what was said of it. */
interface Planned {
  readonly wanted: WantedRequest;
  readonly version: string;
  readonly settings: DeviceSettings;
  readonly wishes: Wishes;
}

async function lookAt(
  wanted: WantedRequest,
  wishes: Wishes,
  agents: readonly AgentView[],
): Promise<Planned | { readonly refusal: Refusal }> {
  const absent = await missingRefusal(wanted.file);
  if (absent !== undefined) return { refusal: absent };
  try {
    const settings = await settingsOf(wanted.file);
    return { wanted, settings, wishes, version: versionFor(wishes.esphomeVersion ?? settings.esphome, agents) };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { refusal: refusalFor(wanted.file, error) };
  }
}

/** What one file asks of the farm, and the version that reads it. @throws UsageError `bad-settings`, `bad-version` */
export async function planOf(
  farm: Farm,
  file: string,
  named: string | undefined,
): Promise<{ readonly settings: DeviceSettings; readonly version: string }> {
  const wish = named === undefined ? undefined : wishFrom(named);
  const settings = await settingsOf(file);
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  return { settings, version: versionFor(wish ?? settings.esphome, agents) };
}

/** The refusal of a file that is not there; asked before an environment is made for it. */
export async function missingRefusal(file: string): Promise<Refusal | undefined> {
  const stop = await missingConfiguration(file);
  if (stop === undefined || stop.aborted) return undefined;
  const line = stop.failure.kind === "config-invalid" ? stop.failure.tail[0] : undefined;
  return refusal(file, line?.endsWith("is not a file") === true ? "this is not a file" : "there is no such file");
}

/** @throws UsageError `no-environment`: the version is none, or this machine cannot run it */
export async function environment(session: Session, version: string): Promise<EsphomeEnvironment> {
  const { cacheFolder, pythonHint, clock, terminal, interrupted } = session;
  const environments = new EsphomeEnvironments({ cacheFolder, clock, pythonHint });
  // Of pip's hundred lines nobody here wants one; when it fails, the failure quotes it.
  const onStep = (line: string) => terminal.note(`${shown(line)}; once, about half a minute`);
  const made = await environments.ensure(version, { signal: interrupted, onStep });
  if (made.ok) return made.env;
  interrupted.throwIfAborted();
  const reason = made.aborted ? "called off" : describeFailure(made.failure);
  throw new UsageError("no-environment", `there is no ESPHome to read configurations with: ${shown(reason)}`);
}

interface HalfWish {
  readonly version: string;
  readonly settings: DeviceSettings;
  readonly flash: FlashWishes;
}

/** The upload half of a request for the device that a file describes. @throws UsageError as `environment` */
export async function readHalf(
  session: Session,
  file: string,
  { version, settings, flash }: HalfWish,
): Promise<UploadHalf | Refusal> {
  const env = await environment(session, version);
  const read = await readConfiguration(env, file, { signal: session.interrupted });
  if (!read.ok) return refusalOf(file, read) ?? refusal(file, "interrupted");
  const half = uploadHalf(read.configuration, settings, flash);
  return typeof half === "string" ? refusal(file, half) : half;
}

async function prepareOne(
  session: Session,
  env: EsphomeEnvironment,
  bundles: ObjectStore,
  { wanted, settings, wishes }: Planned,
): Promise<One> {
  const { file, configuration, kind, flash = {} } = wanted;
  const signal = session.interrupted;
  const read = await readConfiguration(env, file, { signal });
  if (!read.ok) return refusedBy(file, read);
  const half = kind === "build" ? undefined : uploadHalf(read.configuration, settings, flash);
  if (typeof half === "string") return { refusal: refusal(file, half) };
  const bundle = await makeBundle(env, file, { signal });
  if (!bundle.ok) return refusedBy(file, bundle);
  await bundles.put(bundle.digest, bundle.bytes);
  const { platform } = read.configuration;
  const build = {
    driver: "esphome" as const,
    version: env.version,
    bundle: bundle.digest,
    entry: bundle.entry,
    ...(platform === "unknown" ? {} : { platform }),
    ...(wishes.keepsDebug === true ? { keepsDebug: true } : {}),
  };
  const upload = half === undefined ? {} : { upload: half };
  const request = { id: newChainId(session), kind, configuration, build, ...routeFrom(settings, wishes), ...upload };
  return { request: wishes.isRebuild === true ? { ...request, isRebuild: true } : request };
}

/** Where the build half of a request may run, by what the user and the file say. */
export function routeFrom(settings: DeviceSettings, wishes: Wishes): Pick<ChainRequest, "route"> {
  const on = wishes.buildOn ?? settings["build-on"];
  const { "build-labels": labels = [], sandbox } = settings;
  if (on === undefined && labels.length === 0 && sandbox === undefined) return {};
  return { route: { labels, ...(on === undefined ? {} : { on }), ...(sandbox === undefined ? {} : { sandbox }) } };
}

function refusedBy(file: string, stop: Parameters<typeof refusalOf>[1]): One {
  const found = refusalOf(file, stop);
  return found === undefined ? undefined : { refusal: found };
}

async function inParallel<T, R>(items: readonly T[], atOnce: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
