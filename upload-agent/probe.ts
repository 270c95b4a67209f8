/** Asks a device which build it runs, and compares that with the build it should run. Never changes the device. */
import { type Clock, poll } from "#actor/clock.ts";
import type { EsphomeBuild } from "#protocol/artifact.ts";
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { askDevice } from "#upload-agent/native-api.ts";
import type { ApiClaim } from "#upload-agent/native-api-line.ts";

/**
 * - `new`: the right device runs the expected build;
 * - `old`: the right device runs another build;
 * - `other`: another device answers at the address;
 * - `unreachable`: nobody answers now, which may pass;
 * - `unknowable`: this device cannot be asked: it has no API, or one that only speaks with who has another key.
 */
export type ProbeAnswer = "new" | "old" | "other" | "unreachable" | "unknowable";

export interface Probe {
  readonly answer: ProbeAnswer;
  /** What the device said, where it said something. */
  readonly report?: DeviceReport;
  /** For a sentence: why there is no report. */
  readonly detail?: string;
  /** Of `unknowable`: the build that is expected will speak with us, so that it is the one before that does not. */
  readonly mayPass?: boolean;
}

/** A device on a mesh answers within two seconds; a busy one is asked again. */
export const askMs = 5_000;
/** The last question of a wait gets at least this long: one cut short would say nothing of the device. */
const lastAskMs = 1_000;
/** A device is asked this often while it restarts. A host device is back after 0.13 s, an ESP32 after three seconds. */
export const askEveryMs = 250;

/**
 * Asks once. `timeoutMs` bounds the whole conversation. In a rename `old` also means that the device has its new name already and
 * another build: it is the right one and wants this build.
 */
export async function probe(
  target: OtaTarget,
  expected: EsphomeBuild,
  options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<Probe> {
  const answered = await askDevice(target, { signal: options.signal, timeoutMs: options.timeoutMs ?? askMs });
  switch (answered.kind) {
    case "answered":
      return { answer: judge(target, expected, answered.report), report: answered.report };
    case "unreachable":
      return { answer: "unreachable", detail: answered.detail };
    case "encrypted":
      return { answer: "unknowable", detail: "the device's native API is encrypted, and its key is not known" };
    case "key-refused": {
      const { claim, detail } = answered;
      if (claim === undefined || mayBe(target, expected, claim)) return { answer: "unknowable", detail, mayPass: true };
      return { answer: "other", detail: `${claim.name} (${claim.mac}); ${detail}` };
    }
    case "key-unusable":
      return { answer: "unknowable", detail: "the configuration's API encryption key is not 32 bytes in base64" };
    case "no-api":
      return { answer: "unknowable", detail: "the configuration has no native API" };
  }
}

/**
 * Where a device is asked after a flash: a rename moves it to the address of its new name, and it stays where it was when its
 * address does not follow its name.
 */
function addressesAfter(target: OtaTarget): readonly OtaTarget[] {
  const { hostAfter } = target;
  return hostAfter === undefined || hostAfter === target.host ? [target] : [{ ...target, host: hostAfter }, target];
}

/**
 * Asks once before a flash. Who does not answer at the address that is to be flashed may have been renamed already, by an attempt
 * whose end nobody heard of; at the address of the new name only `new` says something.
 */
export async function probeBefore(
  target: OtaTarget,
  expected: EsphomeBuild,
  options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<Probe> {
  const seen = await probe(target, expected, options);
  const [moved] = addressesAfter(target);
  if (seen.answer !== "unreachable" || moved === undefined || moved === target) return seen;
  const there = await probe(moved, expected, options);
  return there.answer === "new" ? there : seen;
}

/**
 * Asks once at every address that the device may have after a flash, at all of them at the same time: one that does not exist any
 * more is silent for as long as its question may take. @returns the answer that says most.
 */
export async function probeAfter(
  target: OtaTarget,
  expected: EsphomeBuild,
  options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<Probe> {
  const found = new AbortController();
  const signal = AbortSignal.any([options.signal, found.signal]);
  const seen = await Promise.all(
    addressesAfter(target).map(async (address) => {
      const one = await probe(address, expected, { ...options, signal });
      if (one.answer === "new") found.abort();
      return one;
    }),
  );
  // The address of the new name comes first, and of two that say as much its word counts.
  return seen.reduce((best, one) => (telling[one.answer] > telling[best.answer] ? one : best));
}

/** Another device at one of two addresses says nothing of the one that is looked for, as long as that one answers at the other. */
const telling: Readonly<Record<ProbeAnswer, number>> = { new: 4, old: 3, other: 2, unknowable: 1, unreachable: 0 };

/**
 * Asks until the device runs the expected build, for `withinMs` and a second; also ends when it can never be asked.
 * @returns what was seen last, `new` in the good case.
 */
export async function waitUntilRunning(
  target: OtaTarget,
  expected: EsphomeBuild,
  options: {
    readonly withinMs: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly everyMs?: number;
    readonly timeoutMs?: number;
  },
): Promise<Probe> {
  const { clock, signal, withinMs } = options;
  const until = clock.monotonic() + withinMs;
  let last: Probe = { answer: "unreachable", detail: "the device was not asked" };
  await poll(clock, { everyMs: options.everyMs ?? askEveryMs, withinMs, signal }, async () => {
    const leftMs = Math.max(lastAskMs, until - clock.monotonic());
    const seen = await probeAfter(target, expected, {
      signal,
      timeoutMs: Math.min(options.timeoutMs ?? askMs, leftMs),
    });
    // An ask that was cut short says nothing of the device; what was seen before is the better last word.
    if (signal.aborted && seen.answer === "unreachable") return undefined;
    last = seen;
    const isFinal = seen.answer === "new" || (seen.answer === "unknowable" && seen.mayPass !== true);
    return isFinal ? seen : undefined;
  });
  return last;
}

/** Whether this is the device, as far as its own unproved word goes: it can only speak against it. */
function mayBe(target: OtaTarget, expected: EsphomeBuild, claim: ApiClaim): boolean {
  const { name, formerName = name, mac } = target;
  const names = [expected.name, name, formerName];
  if (claim.mac === "") return names.some((one) => claim.name === one || claim.name.startsWith(`${one}-`));
  const isElsewhere = mac !== undefined && macDigits(mac) !== macDigits(claim.mac);
  return !isElsewhere && names.some((one) => isNamed(claim, one));
}

function judge(target: OtaTarget, expected: EsphomeBuild, report: DeviceReport): ProbeAnswer {
  if (target.mac !== undefined && macDigits(target.mac) !== macDigits(report.mac)) return "other";
  if (isNamed(report, expected.name)) return report.compilationTime === expected.buildTimeStr ? "new" : "old";
  const { name, formerName = name } = target;
  return isNamed(report, name) || isNamed(report, formerName) ? "old" : "other";
}

/** With `name_add_mac_suffix` a device adds the last three bytes of its address to the configured name. */
function isNamed(report: Pick<DeviceReport, "name" | "mac">, name: string): boolean {
  return report.name === name || report.name === `${name}-${macDigits(report.mac).slice(-6)}`;
}

function macDigits(mac: string): string {
  return mac.toLowerCase().replaceAll(/[^0-9a-f]/g, "");
}
