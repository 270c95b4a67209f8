/** Asks a device which build it runs, and compares that with the build it should run. Never changes the device. */
import { type Clock, poll } from "#actor/clock.ts";
import type { EsphomeBuild } from "#protocol/artifact.ts";
import type { DeviceReport, OtaTarget } from "#protocol/job.ts";
import { askDevice } from "#upload-agent/native-api.ts";

/**
 * - `new`: the right device runs the expected build;
 * - `old`: the right device runs another build;
 * - `other`: another device answers at the address;
 * - `unreachable`: nobody answers now, which may pass;
 * - `unknowable`: this device cannot be asked (no API, or an encrypted one), now or later.
 */
export type ProbeAnswer = "new" | "old" | "other" | "unreachable" | "unknowable";

export interface Probe {
  readonly answer: ProbeAnswer;
  /** What the device said, where it said something. */
  readonly report?: DeviceReport;
  /** For a sentence: why there is no report. */
  readonly detail?: string;
}

/** A device on a mesh answers within two seconds; a busy one is asked again. */
export const askMs = 5_000;
/** The last question of a wait gets at least this long: one cut short would say nothing of the device. */
const lastAskMs = 1_000;
/** A device is asked this often while it restarts. A host device is back after 0.13 s, an ESP32 after three seconds. */
export const askEveryMs = 250;

/** Asks once. `timeoutMs` bounds the whole conversation. */
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
      return { answer: "unknowable", detail: "the device's native API is encrypted" };
    case "no-api":
      return { answer: "unknowable", detail: "the configuration has no native API" };
  }
}

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
    const seen = await probe(target, expected, { signal, timeoutMs: Math.min(options.timeoutMs ?? askMs, leftMs) });
    // An ask that was cut short says nothing of the device; what was seen before is the better last word.
    if (signal.aborted && seen.answer === "unreachable") return undefined;
    last = seen;
    return seen.answer === "new" || seen.answer === "unknowable" ? seen : undefined;
  });
  return last;
}

function judge(target: OtaTarget, expected: EsphomeBuild, report: DeviceReport): ProbeAnswer {
  if (target.mac !== undefined && macDigits(target.mac) !== macDigits(report.mac)) return "other";
  if (isNamed(report, expected.name)) return report.compilationTime === expected.buildTimeStr ? "new" : "old";
  // A device that is being renamed answers to its old name until it runs the new build.
  return isNamed(report, target.name) ? "old" : "other";
}

/** With `name_add_mac_suffix` a device adds the last three bytes of its address to the configured name. */
function isNamed(report: DeviceReport, name: string): boolean {
  return report.name === name || report.name === `${name}-${macDigits(report.mac).slice(-6)}`;
}

function macDigits(mac: string): string {
  return mac.toLowerCase().replaceAll(/[^0-9a-f]/g, "");
}
