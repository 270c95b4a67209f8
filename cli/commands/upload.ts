/** `flashyard upload`: flash what has been built. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Priority } from "#protocol/chain.ts";
import { UsageError } from "#protocol/errors.ts";
import { ChainId } from "#protocol/ids.ts";
import { readConfiguration } from "#toolchain/configuration.ts";
import { configurationOf } from "#cli/configuration-files.ts";
import { deviceAddressFrom } from "#cli/device-address.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { type AnswerOf, Farm } from "#cli/farm.ts";
import { agentNamed, environment, missingRefusal, planOf, uploadRequest, uploadTarget } from "#cli/preparation.ts";
import { type Refusal, refusal, refusalOf, showRefusals } from "#cli/refusal.ts";
import { ago } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";
import { newChainId, submitAndFollow } from "#cli/submit.ts";

export interface UploadOptions {
  readonly from?: string;
  readonly device?: string;
  readonly on?: string;
  readonly esphomeVersion?: string;
  readonly priority?: Priority;
  readonly detach?: boolean;
  readonly json?: boolean;
}

export async function runUpload(session: Session, file: string, options: UploadOptions): Promise<ExitCode> {
  const { json: isJson = false, detach: isDetached = false } = options;
  // Wrong use is said before the farm is asked.
  if (options.device !== undefined) deviceAddressFrom(options.device);
  if (options.on !== undefined) agentNamed(options.on);
  if (options.from !== undefined && !ChainId.safeParse(options.from).success) {
    const message = `--from ${JSON.stringify(options.from)} is no chain; \`flashyard ps --all\` lists them`;
    throw new UsageError("bad-chain", message);
  }
  await using farm = await Farm.open(session);
  const made = await prepareUpload(session, farm, file, options);
  session.interrupted.throwIfAborted();
  if ("request" in made) {
    const { code } = await submitAndFollow(session, farm, [made.request], { isDetached, isJson, refused: [] });
    return code;
  }
  showRefusals(session.terminal, [made.refusal], isJson);
  return exitCodes.badInput;
}

async function prepareUpload(
  session: Session,
  farm: Farm,
  file: string,
  options: UploadOptions,
): Promise<{ readonly request: ChainRequest } | { readonly refusal: Refusal }> {
  const absent = await missingRefusal(file);
  if (absent !== undefined) return { refusal: absent };
  const configuration = configurationOf(file);
  const reference = options.from ?? configuration;
  const build = await farm.ask({ v: 1, kind: "newest-build", reference }, "newest-build");
  const unsuitable = reasonAgainst(build, configuration);
  if (unsuitable !== undefined) return { refusal: refusal(file, unsuitable) };
  const { settings, version } = await planOf(farm, file, options.esphomeVersion);
  const env = await environment(session, version);
  const read = await readConfiguration(env, file, { signal: session.interrupted });
  if (!read.ok) return { refusal: refusalOf(file, read) ?? refusal(file, "interrupted") };
  const target = uploadTarget(
    read.configuration,
    options.device === undefined ? undefined : deviceAddressFrom(options.device),
  );
  if (typeof target === "string") return { refusal: refusal(file, target) };
  session.terminal.note(`flashing what ${build.chain} built ${ago(build.builtAt, session.clock.now())}`);
  const on = options.on === undefined ? undefined : agentNamed(options.on);
  const upload = { ...uploadRequest(target, settings, on), manifest: build.manifest };
  const { priority = "interactive" } = options;
  return { request: { id: newChainId(session), kind: "upload", configuration, upload, priority } };
}

function reasonAgainst(build: AnswerOf<"newest-build">, configuration: string): string | undefined {
  if (build.configuration !== configuration) {
    return `${build.chain} built another configuration, ${build.configuration}`;
  }
  const hasImage = build.manifest.images.some(({ role }) => role === "ota");
  return hasImage ? undefined : `${build.chain} built nothing that can be flashed over the air`;
}
