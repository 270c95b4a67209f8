/** The coordinator's settings, read from its environment and checked. */
import { UsageError } from "#protocol/errors.ts";
import { historyChainsMax, historyDaysMax } from "#protocol/limits.ts";
import type { HistoryLimits } from "#coordinator/core/history.ts";

const dayMs = 24 * 60 * 60_000;

/** `FLASHYARD_HISTORY_CHAINS` and `FLASHYARD_HISTORY_DAYS`. @throws UsageError for what is no number from 0 on */
export function historyLimits(env: Readonly<Record<string, string | undefined>>): HistoryLimits {
  const days = count("FLASHYARD_HISTORY_DAYS", env.FLASHYARD_HISTORY_DAYS, historyDaysMax);
  return {
    chainsMax: count("FLASHYARD_HISTORY_CHAINS", env.FLASHYARD_HISTORY_CHAINS, historyChainsMax),
    ageMsMax: days * dayMs,
  };
}

function count(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined || text === "") return fallback;
  if (/^\d{1,7}$/.test(text)) return Number(text);
  throw new UsageError("bad-setting", `${name} is ${JSON.stringify(text)}, and must be a number from 0 to 9999999`);
}
