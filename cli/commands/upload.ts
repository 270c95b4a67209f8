/** `flashyard upload`: flash what has been built. */
import type { AdminRequest, ChainRequest } from "#protocol/admin.ts";
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { ChainId, type Configuration } from "#protocol/ids.ts";
import type { UpdatePart } from "#protocol/job.ts";
import { configurationOf } from "#cli/configuration-files.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { type FlashOptions, type FlashWishes, flashWishesFrom } from "#cli/flash-wishes.ts";
import { missingRefusal, planOf, readHalf } from "#cli/preparation.ts";
import { type Refusal, refusal, showRefusals } from "#cli/refusal.ts";
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
  // Wrong use is said before the farm is asked.
  const wishes = { ...flashWishesFrom(options), part: partFrom(options) };
  const { from } = options;
  if (from !== undefined && !ChainId.safeParse(from).success) {
    const message = `--from ${JSON.stringify(from)} is no chain; \`flashyard ps --all\` lists them`;
    throw new UsageError("bad-chain", message);
  }
  return await flashBuild(session, file, {
    find: (configuration) => ({ v: 1, kind: "newest-build", reference: from ?? configuration }),
    // Who names a chain wants just that build, however old.
    flash: from === undefined ? wishes : { ...wishes, mayDowngrade: true },
    options,
  });
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
  /** How the farm is asked for the build. */
  readonly find: (configuration: Configuration) => AdminRequest;
  readonly flash: FlashWishes;
  readonly options: Pick<UploadOptions, "esphomeVersion" | "priority" | "confirm" | "detach" | "json">;
}

/** Flashes a build at the device that the file describes. @throws UsageError, UnavailableError */
export async function flashBuild(session: Session, file: string, wanted: Wanted): Promise<ExitCode> {
  const { json: isJson = false, detach: isDetached = false, confirm: isConfirmed = false } = wanted.options;
  await using farm = await Farm.open(session);
  const made = await requestOf(session, farm, file, wanted);
  session.interrupted.throwIfAborted();
  if (!("id" in made)) {
    showRefusals(session.terminal, [made], isJson);
    return exitCodes.badInput;
  }
  const { code } = await submitAndFollow(session, farm, [made], { isDetached, isJson, refused: [], isConfirmed });
  return code;
}

async function requestOf(
  session: Session,
  farm: Farm,
  file: string,
  { find, flash, options }: Wanted,
): Promise<ChainRequest | Refusal> {
  const absent = await missingRefusal(file);
  if (absent !== undefined) return absent;
  const configuration = configurationOf(file);
  const build = await farm.ask(find(configuration), "newest-build");
  if (build.configuration !== configuration) {
    return refusal(file, `${build.chain} built another configuration, ${build.configuration}`);
  }
  const { settings, version } = await planOf(farm, file, options.esphomeVersion);
  const half = await readHalf(session, file, { version, settings, flash });
  if (!("target" in half)) return half;
  const { target } = half;
  const role = target.kind === "serial" ? "factory" : (flash.part ?? "ota");
  const isTool = target.kind === "serial" && target.tool.kind === "command";
  if (!isTool && build.manifest.images.every((image) => image.role !== role)) {
    return refusal(file, `${build.chain} built no image that is flashed this way (${role})`);
  }
  session.terminal.note(`flashing what ${build.chain} built ${ago(build.builtAt, session.clock.now())}`);
  const { priority = "interactive" } = options;
  const upload = { ...half, manifest: build.manifest };
  return { id: newChainId(session), kind: "upload", configuration, upload, priority };
}
