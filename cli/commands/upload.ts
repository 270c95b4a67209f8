/** `flashyard upload`: flash what has been built. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { ChainId } from "#protocol/ids.ts";
import type { UpdatePart } from "#protocol/job.ts";
import { readConfiguration } from "#toolchain/configuration.ts";
import { configurationOf } from "#cli/configuration-files.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { type AnswerOf, Farm } from "#cli/farm.ts";
import { type FlashOptions, type FlashWishes, flashWishesFrom, uploadHalf } from "#cli/flash-wishes.ts";
import { environment, missingRefusal, planOf } from "#cli/preparation.ts";
import { type Refusal, refusal, refusalOf, showRefusals } from "#cli/refusal.ts";
import { ago } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { newChainId, submitAndFollow } from "#cli/submit.ts";

export interface UploadOptions extends FlashOptions {
  readonly from?: string;
  readonly esphomeVersion?: string;
  readonly priority?: Priority;
  readonly confirm?: boolean;
  readonly bootloader?: boolean;
  readonly partitionTable?: boolean;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runUpload(session: Session, file: string, options: UploadOptions): Promise<ExitCode> {
  const { json: isJson = false, detach: isDetached = false, confirm: isConfirmed = false } = options;
  // Wrong use is said before the farm is asked. Who names a chain wants just that build, however old.
  const flash = { ...flashWishesFrom(options), part: partFrom(options) };
  const wishes = options.from === undefined ? flash : { ...flash, mayDowngrade: true };
  if (options.from !== undefined && !ChainId.safeParse(options.from).success) {
    const message = `--from ${JSON.stringify(options.from)} is no chain; \`flashyard ps --all\` lists them`;
    throw new UsageError("bad-chain", message);
  }
  await using farm = await Farm.open(session);
  const made = await prepareUpload(session, farm, file, { flash: wishes, options });
  session.interrupted.throwIfAborted();
  if ("request" in made) {
    const how = { isDetached, isJson, refused: [], isConfirmed };
    const { code } = await submitAndFollow(session, farm, [made.request], how);
    return code;
  }
  showRefusals(session.terminal, [made.refusal], isJson);
  return exitCodes.badInput;
}

/** @throws UsageError `two-parts` */
function partFrom({ bootloader = false, partitionTable = false }: UploadOptions): UpdatePart | undefined {
  if (bootloader && partitionTable) {
    throw new UsageError(
      "two-parts",
      "--bootloader and --partition-table are two uploads: the device restarts in between",
    );
  }
  if (bootloader) return "bootloader";
  return partitionTable ? "partition-table" : undefined;
}

interface Wanted {
  readonly flash: FlashWishes;
  readonly options: Pick<UploadOptions, "from" | "esphomeVersion" | "priority">;
}

type Made = { readonly request: ChainRequest } | { readonly refusal: Refusal };

async function prepareUpload(session: Session, farm: Farm, file: string, wanted: Wanted): Promise<Made> {
  const absent = await missingRefusal(file);
  if (absent !== undefined) return { refusal: absent };
  const reference = wanted.options.from ?? configurationOf(file);
  const build = await farm.ask({ v: 1, kind: "newest-build", reference }, "newest-build");
  return requestOf(session, farm, file, { ...wanted, build });
}

/** Asks for the flash of a build at the device that the file describes. @throws UsageError, UnavailableError */
export async function requestOf(
  session: Session,
  farm: Farm,
  file: string,
  { build, flash, options }: Wanted & { readonly build: AnswerOf<"newest-build"> },
): Promise<Made> {
  const absent = await missingRefusal(file);
  if (absent !== undefined) return { refusal: absent };
  const configuration = configurationOf(file);
  if (build.configuration !== configuration) {
    return { refusal: refusal(file, `${build.chain} built another configuration, ${build.configuration}`) };
  }
  const { settings, version } = await planOf(farm, file, options.esphomeVersion);
  const env = await environment(session, version);
  const read = await readConfiguration(env, file, { signal: session.interrupted });
  if (!read.ok) return { refusal: refusalOf(file, read) ?? refusal(file, "interrupted") };
  const half = uploadHalf(read.configuration, settings, flash);
  if (typeof half === "string") return { refusal: refusal(file, half) };
  const role = half.target.kind === "serial" ? "factory" : (flash.part ?? "ota");
  const isTool = half.target.kind === "serial" && half.target.tool.kind === "command";
  if (!isTool && build.manifest.images.every((image) => image.role !== role)) {
    return { refusal: refusal(file, `${build.chain} built no image that is flashed this way (${role})`) };
  }
  session.terminal.note(`flashing what ${build.chain} built ${ago(build.builtAt, session.clock.now())}`);
  const { priority = "interactive" } = options;
  const upload = { ...half, manifest: build.manifest };
  return { request: { id: newChainId(session), kind: "upload", configuration, upload, priority } };
}
