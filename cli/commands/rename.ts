/** `flashyard rename`: builds under the new name, flashes at the old address, and swaps the files only when that succeeded. */
import type { ChainRequest } from "#protocol/admin.ts";
import { InvariantError } from "#protocol/errors.ts";
import type { OtaTarget } from "#protocol/job.ts";
import { makeBundle } from "#toolchain/bundle.ts";
import { type DeviceConfiguration, readConfiguration } from "#toolchain/configuration.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { type NameSwap, planSwap, swapFiles, withDraft } from "#cli/name-swap.ts";
import { type FlashWishes, flashWishesFrom, uploadHalf } from "#cli/flash-wishes.ts";
import { environment, planOf, routeFrom } from "#cli/preparation.ts";
import { type Refusal, refusal, refusalOf, showRefusals } from "#cli/refusal.ts";
import type { Session } from "#cli/session.ts";
import { newChainId, submitAndFollow } from "#cli/submit.ts";

export interface RenameOptions {
  readonly on?: string;
  readonly device?: string;
  readonly esphomeVersion?: string;
  readonly json?: boolean;
}

export async function runRename(
  session: Session,
  file: string,
  name: string,
  options: RenameOptions,
): Promise<ExitCode> {
  const { json: isJson = false, esphomeVersion } = options;
  const wishes = flashWishesFrom(options);
  const swap = await planSwap(file, name);
  await using farm = await Farm.open(session);
  const made = await withDraft(swap, () => prepareRename(session, farm, swap, esphomeVersion, wishes));
  session.interrupted.throwIfAborted();
  if (!("id" in made)) {
    showRefusals(session.terminal, [made], isJson);
    return exitCodes.badInput;
  }
  const { code } = await submitAndFollow(session, farm, [made], { isDetached: false, isJson, refused: [] });
  return code === exitCodes.done ? await finish(session, swap, isJson) : stay(session, swap, code);
}

async function finish({ terminal }: Session, swap: NameSwap, isJson: boolean): Promise<ExitCode> {
  const left = await swapFiles(swap);
  const { oldConfiguration: from, newConfiguration: to, oldFile, newFile } = swap;
  if (isJson) terminal.json({ kind: "renamed", from, to, file: newFile });
  else terminal.line(shown(`${oldFile} is ${newFile} now`));
  if (left === undefined) return exitCodes.done;
  terminal.note(shown(left));
  return exitCodes.failed;
}

function stay({ terminal }: Session, { oldFile, name }: NameSwap, code: ExitCode): ExitCode {
  const again = `\`flashyard rename ${oldFile} ${name}\``;
  const next =
    code === exitCodes.detached
      ? `run ${again} once more to finish it`
      : code === exitCodes.unknown
        ? `the device may have its new name already: run ${again} once more, which asks it first`
        : "it is as it was";
  terminal.note(shown(`${oldFile} was not renamed: ${next}`));
  return code;
}

async function prepareRename(
  session: Session,
  farm: Farm,
  swap: NameSwap,
  esphomeVersion: string | undefined,
  wishes: FlashWishes,
): Promise<ChainRequest | Refusal> {
  const { oldFile, draftFile, name } = swap;
  const signal = session.interrupted;
  const { settings, version } = await planOf(farm, oldFile, esphomeVersion);
  const env = await environment(session, version);
  session.terminal.note(shown(`reading ${oldFile} under both names with ESPHome ${env.version}`));
  const [before, after] = await Promise.all(
    [oldFile, draftFile].map((file) => readConfiguration(env, file, { signal })),
  );
  if (before?.ok !== true) return refusedBy(oldFile, before);
  if (after?.ok !== true) return refusedBy(oldFile, after);
  const reason = reasonAgainst(before.configuration, after.configuration, name);
  if (reason !== undefined) return refusal(oldFile, reason);
  // Over the air also where the file names a port: what runs now must be reached at its old name.
  const { port: _port, ...overTheAir } = settings;
  const half = uploadHalf(before.configuration, overTheAir, wishes);
  if (typeof half === "string") return refusal(oldFile, half);
  const { target } = half;
  if (target.kind !== "ota") throw new InvariantError("not-over-the-air", `${oldFile} is renamed over a port`);
  const bundle = await makeBundle(env, draftFile, { signal });
  if (!bundle.ok) return refusedBy(oldFile, bundle);
  await farm.bundles.put(bundle.digest, bundle.bytes);
  return {
    id: newChainId(session),
    kind: "rename",
    configuration: swap.newConfiguration,
    renamedFrom: swap.oldConfiguration,
    build: { driver: "esphome", version: env.version, bundle: bundle.digest, entry: bundle.entry },
    ...routeFrom(settings, {}),
    upload: {
      ...half,
      target: renamedTarget(target, before.configuration, after.configuration),
    },
  };
}

function refusedBy(file: string, stop: Parameters<typeof refusalOf>[1] | undefined): Refusal {
  return (stop === undefined ? undefined : refusalOf(file, stop)) ?? refusal(file, "interrupted");
}

function reasonAgainst(before: DeviceConfiguration, after: DeviceConfiguration, name: string): string | undefined {
  if (before.esphomeName === name) return `its device is called ${name} already`;
  if (after.esphomeName !== name) {
    return `ESPHome takes its name from elsewhere: with the name changed in this file it is still ${after.esphomeName}`;
  }
  return after.addsMacSuffix
    ? "with `name_add_mac_suffix` several devices have this configuration: change its name, then install each with --device"
    : undefined;
}

/** The device as it is reached now, and what changes once it runs the build. Pure. */
export function renamedTarget(target: OtaTarget, before: DeviceConfiguration, after: DeviceConfiguration): OtaTarget {
  const hostAfter = after.target?.host;
  const follows = target.host === before.target?.host && hostAfter !== undefined && hostAfter !== target.host;
  return {
    ...target,
    name: after.esphomeName,
    formerName: before.esphomeName,
    ...(follows ? { hostAfter } : {}),
  };
}
