/** Makes requests that run chains again: at the upload where their build can still be used, from the start where not. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { ChainRequest } from "#protocol/admin.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import type { Chain } from "#protocol/chain.ts";
import { InvariantError, UsageError } from "#protocol/errors.ts";
import { describeFault } from "#protocol/failure.ts";
import type { Configuration } from "#protocol/ids.ts";
import { addressOfTarget, networkOf } from "#protocol/job.ts";
import type { DeviceAddress } from "#cli/device-address.ts";
import { type DeviceSettings, settingsOf } from "#cli/device-settings.ts";
import type { Farm } from "#cli/farm.ts";
import type { FlashWishes } from "#cli/flash-wishes.ts";
import { nameOf } from "#cli/job-sentence.ts";
import { prepare, type Prepared, readHalf, type WantedRequest } from "#cli/preparation.ts";
import { type Refusal, refusal, refusalFor } from "#cli/refusal.ts";
import type { Retried } from "#cli/retry-choice.ts";
import { defaultEsphomeVersion, type Session } from "#cli/session.ts";
import { newChainId } from "#cli/submit.ts";

export interface RetryPlace {
  /** Where the configuration files are. */
  readonly folder: string;
  /** Where the one device is, if the user says so. */
  readonly device: DeviceAddress | undefined;
}

/** One that cannot be run again does not stop the others. @throws UsageError `no-environment`; UnavailableError */
export async function prepareRetries(
  session: Session,
  farm: Farm,
  retried: readonly Retried[],
  place: RetryPlace,
): Promise<Prepared> {
  const requests: ChainRequest[] = [];
  const refused: Refusal[] = [];
  const add = (one: ChainRequest | Refusal) => void ("id" in one ? requests.push(one) : refused.push(one));
  const fromFiles: FromFile[] = [];
  for (const { reference, chain } of retried) {
    if (chain.compile?.spec.driver === "command") {
      add(await commandAgain(session, farm, reference, chain));
      continue;
    }
    const file = await fileOf(chain.configuration, place.folder);
    if (file === undefined) {
      add(
        refusal(reference, `there is no ${chain.configuration}.yaml in ${place.folder}: name its folder with --folder`),
      );
    } else if (chain.kind === "upload") add(await uploadAgain(session, farm, file, chain, place));
    else fromFiles.push({ chain, file });
  }
  const again = await installsAgain(session, farm, fromFiles, place);
  return { requests: [...requests, ...again.requests], refused: [...refused, ...again.refused] };
}

interface FromFile {
  readonly chain: Chain;
  readonly file: string;
}

async function fileOf(configuration: Configuration, folder: string): Promise<string | undefined> {
  for (const ending of ["yaml", "yml"]) {
    const file = join(folder, `${configuration}.${ending}`);
    if ((await stat(file).catch(() => undefined))?.isFile() === true) return file;
  }
  return undefined;
}

/** Everything that the farm needs it has, unless its bundle was swept. */
async function commandAgain(
  session: Session,
  farm: Farm,
  reference: string,
  { id, configuration, compile }: Chain,
): Promise<ChainRequest | Refusal> {
  if (compile === undefined) throw new InvariantError("no-build", `${id} has no build`);
  const bundle = await farm.bundles.get(compile.spec.bundle);
  if (!bundle.ok) {
    return refusal(reference, `the farm does not have the folder any more that ${id} built: use \`flashyard build\``);
  }
  return { id: newChainId(session), kind: "build", configuration, build: compile.spec };
}

/** Each version of ESPHome reads what it built. */
async function installsAgain(
  session: Session,
  farm: Farm,
  files: readonly FromFile[],
  place: RetryPlace,
): Promise<Prepared> {
  const byVersion = Map.groupBy(files, ({ chain }) => versionOf(chain));
  const requests: ChainRequest[] = [];
  const refused: Refusal[] = [];
  for (const [version, some] of byVersion) {
    const chains = new Map(some.map(({ chain }) => [chain.configuration, chain]));
    const wanted = some.map(({ chain, file }) => wantedAgain(chain, file, place));
    const made = await prepare(session, farm, wanted, { esphomeVersion: version });
    refused.push(...made.refused);
    for (const request of made.requests) {
      const chain = chains.get(request.configuration);
      requests.push(chain === undefined ? request : await shortened(session, farm, request, chain));
    }
  }
  return { requests, refused };
}

function versionOf({ compile }: Chain): string {
  return compile?.spec.driver === "esphome" ? compile.spec.version : defaultEsphomeVersion;
}

function wantedAgain(chain: Chain, file: string, place: RetryPlace): WantedRequest {
  const { configuration, kind } = chain;
  const flash = flashAgain(chain, place);
  return { file, configuration, kind: kind === "build" ? "build" : "install", flash };
}

/**
 * Where the device is looked for: where it was, because --device may have said so. An address that follows from the device's name
 * comes from the file, which may say something better by now. Pure.
 */
export function addressAgain({ upload }: Chain, { device }: RetryPlace): DeviceAddress | undefined {
  if (device !== undefined || upload === undefined) return device;
  const target = networkOf(upload.spec.target);
  if (target === undefined) return undefined;
  const { host, port, name } = target;
  return host === `${name}.local` ? undefined : { host, port };
}

/** As it was asked for, at the port or in the network. Pure. */
export function flashAgain(chain: Chain, place: RetryPlace): FlashWishes {
  const { target, on, timing, mayDowngrade, part } = chain.upload?.spec ?? {};
  const isByPort = target?.kind === "serial" && place.device === undefined;
  const where = isByPort
    ? { port: target.port, flasher: target.tool.kind === "command" ? target.tool.flasher : undefined }
    : { device: addressAgain(chain, place) };
  return {
    ...where,
    on,
    isAwaited: timing?.isAwaited,
    window: timing?.window,
    mayDowngrade,
    part,
    encryption: target?.kind === "ota" ? target.encryption : undefined,
    confirmAfterMs: chain.confirm?.spec.afterMs,
  };
}

/** Without its build, when that is the same, has succeeded, and its image is still there. */
async function shortened(session: Session, farm: Farm, request: ChainRequest, chain: Chain): Promise<ChainRequest> {
  const { id, configuration, build, upload } = request;
  const name = nameOf(configuration);
  const built = chain.compile?.outcome;
  const isSame = build !== undefined && chain.compile?.spec.bundle === build.bundle;
  const isUsable =
    isSame && built?.kind === "built" && isSigned(farm, built.manifest) && (await hasImages(farm, built.manifest));
  if (upload !== undefined && isUsable) {
    session.terminal.note(
      `${name}: unchanged since ${chain.id} built it, so only its upload is run again${at(request)}`,
    );
    return { id, kind: "upload", configuration, upload: { ...upload, manifest: built.manifest } };
  }
  session.terminal.note(`${name}: ${upload === undefined ? "built" : "built and flashed"} again${at(request)}`);
  return request;
}

function at({ upload }: ChainRequest): string {
  return upload === undefined ? "" : ` at ${addressOfTarget(upload.target)}`;
}

/** A farm with identity flashes nothing that nobody has signed: what an older version built is built again. */
function isSigned({ credentials }: Farm, { provenance }: ArtifactManifest): boolean {
  return credentials === undefined || provenance !== undefined;
}

/** Whether what is flashed over the air is in the farm, and whole. */
async function hasImages(farm: Farm, { images }: ArtifactManifest): Promise<boolean> {
  const store = farm.artifacts;
  const wanted = images.filter(({ role }) => role === "ota");
  for (const { digest } of wanted) if (!(await store.get(digest)).ok) return false;
  return wanted.length > 0;
}

async function uploadAgain(
  session: Session,
  farm: Farm,
  file: string,
  chain: Chain,
  place: RetryPlace,
): Promise<ChainRequest | Refusal> {
  const { configuration, upload } = chain;
  const manifest = upload?.spec.manifest;
  if (manifest === undefined || !(await hasImages(farm, manifest))) {
    return refusal(file, `the farm does not have the image any more that ${chain.id} flashed: use install`);
  }
  if (!isSigned(farm, manifest)) return refusal(file, describeFault("unsigned"));
  const version = manifest.esphome?.esphomeVersion ?? defaultEsphomeVersion;
  let settings: DeviceSettings;
  try {
    settings = await settingsOf(file);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return refusalFor(file, error);
  }
  const wanted = { version, settings, flash: flashAgain(chain, place) };
  const half = await readHalf(session, file, wanted);
  if (!("target" in half)) return half;
  const request = {
    id: newChainId(session),
    kind: "upload" as const,
    configuration,
    upload: { ...half, manifest },
  };
  session.terminal.note(`${nameOf(configuration)}: the build that ${chain.id} had is flashed again${at(request)}`);
  return request;
}
