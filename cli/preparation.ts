/** Makes requests of configuration files: read by ESPHome, packed with all that their build needs, stored in the farm. */
import { availableParallelism } from "node:os";
import type { ChainRequest } from "#protocol/admin.ts";
import { UsageError } from "#protocol/errors.ts";
import { describeFailure } from "#protocol/failure.ts";
import { AgentId } from "#protocol/ids.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { objectStores } from "#protocol/names.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { makeBundle, missingConfiguration } from "#toolchain/bundle.ts";
import { type DeviceConfiguration, readConfiguration } from "#toolchain/configuration.ts";
import { type EsphomeEnvironment, EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { shown } from "#cli/clean-text.ts";
import type { ConfigurationFile } from "#cli/configuration-files.ts";
import { type DeviceAddress, targetAt } from "#cli/device-address.ts";
import type { Farm } from "#cli/farm.ts";
import { type Refusal, refusal, refusalOf } from "#cli/refusal.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { newChainId } from "#cli/submit.ts";

/** A configuration file and what is to be done with it. */
export interface WantedRequest extends ConfigurationFile {
  readonly kind: "install" | "build";
  readonly on?: AgentId | undefined;
  readonly device?: DeviceAddress | undefined;
}

export interface Prepared {
  readonly requests: readonly ChainRequest[];
  readonly refused: readonly Refusal[];
}

/** What one file came to; undefined when it was called off. */
type One = { readonly request: ChainRequest } | { readonly refusal: Refusal } | undefined;

/**
 * As many files at a time as this machine has processors; one that is refused does not stop the others.
 * @throws UsageError `no-environment` when there is no ESPHome to read them with; UnavailableError when the farm goes away
 */
export async function prepare(
  session: Session,
  farm: Farm,
  files: readonly WantedRequest[],
  esphomeVersion: string,
): Promise<Prepared> {
  const absent = await Promise.all(files.map(async ({ file }) => missingRefusal(file)));
  const present = files.filter((_, index) => absent[index] === undefined);
  const refused = absent.filter((found) => found !== undefined);
  if (present.length === 0) return { requests: [], refused };
  const env = await environment(session, esphomeVersion);
  session.terminal.note(`reading ${count(present.length, "configuration")} with ESPHome ${env.version}`);
  const bundles = new ObjectStore(farm.connection, objectStores.bundles);
  const results = await inParallel(present, availableParallelism(), (file) => prepareOne(session, env, bundles, file));
  const made = results.filter((one) => one !== undefined);
  return {
    requests: made.flatMap((one) => ("request" in one ? [one.request] : [])),
    refused: [...refused, ...made.flatMap((one) => ("refusal" in one ? [one.refusal] : []))],
  };
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

async function prepareOne(
  session: Session,
  env: EsphomeEnvironment,
  bundles: ObjectStore,
  { file, configuration, kind, on, device }: WantedRequest,
): Promise<One> {
  const signal = session.interrupted;
  const read = await readConfiguration(env, file, { signal });
  if (!read.ok) return refusedBy(file, read);
  const target = kind === "build" ? undefined : uploadTarget(read.configuration, device);
  if (typeof target === "string") return { refusal: refusal(file, target) };
  const bundle = await makeBundle(env, file, { signal });
  if (!bundle.ok) return refusedBy(file, bundle);
  await bundles.put(bundle.digest, bundle.bytes);
  const build = { driver: "esphome" as const, version: env.version, bundle: bundle.digest, entry: bundle.entry };
  const upload = target === undefined ? {} : { upload: { target, ...(on === undefined ? {} : { on }) } };
  return { request: { id: newChainId(session), kind, configuration, build, ...upload } };
}

function refusedBy(file: string, stop: Parameters<typeof refusalOf>[1]): One {
  const found = refusalOf(file, stop);
  return found === undefined ? undefined : { refusal: found };
}

/** Where the device is flashed, or a sentence that says why it cannot be. */
export function uploadTarget(
  configuration: DeviceConfiguration,
  device: DeviceAddress | undefined,
): OtaTarget | string {
  const { target, addsMacSuffix } = configuration;
  if (target === undefined) {
    return "it cannot be flashed over the air: add `ota:` with `- platform: esphome` to it, or use `flashyard build`";
  }
  if (addsMacSuffix && device === undefined) {
    return "with `name_add_mac_suffix` the device's address cannot be told from the file: name it with --device";
  }
  return targetAt(target, device);
}

/** @throws UsageError `bad-agent` */
export function agentNamed(text: string): AgentId {
  const parsed = AgentId.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new UsageError(
    "bad-agent",
    `--on ${JSON.stringify(text)}: no agent can have this name; \`flashyard agents\` lists them`,
  );
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
