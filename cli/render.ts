/** Values as people read them: tables, durations, sizes. Pure. */
import { fit, padded, shown, widthOf } from "#cli/clean-text.ts";

/**
 * Columns as wide as their widest cell, two spaces apart; every cell is cleaned. A column that is empty in every row is left
 * out. @param columns cuts the lines to a terminal's width
 */
export function table(
  headers: readonly string[],
  rows: readonly (readonly string[])[],
  columns = Number.POSITIVE_INFINITY,
): readonly string[] {
  const clean = rows.map((row) => row.map(shown));
  const used = headers.map((_, index) => index).filter((index) => clean.some((row) => (row[index] ?? "") !== ""));
  const lines = [headers, ...clean].map((row) => used.map((index) => row[index] ?? ""));
  const widths = used.map((_, at) => Math.max(...lines.map((line) => widthOf(line[at] ?? ""))));
  return lines.map((line) =>
    fit(
      line
        .map((cell, at) => padded(cell, widths[at] ?? 0))
        .join("  ")
        .trimEnd(),
      columns,
    ),
  );
}

/** `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d`. Negative durations, which clocks that differ make, are nought. */
export function duration(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d`;
}

export function ago(at: number, now: number): string {
  return now - at < 1_000 ? "now" : `${duration(now - at)} ago`;
}

/** Decimal units, as file managers and flash sizes of ESPHome's own report have them. */
export function size(bytes: number): string {
  if (bytes < 1_000) return `${bytes} bytes`;
  if (bytes < 1_000_000) return `${(bytes / 1_000).toFixed(1)} kB`;
  if (bytes < 1_000_000_000) return `${(bytes / 1_000_000).toFixed(1)} MB`;
  return `${(bytes / 1_000_000_000).toFixed(1)} GB`;
}

/** `1 file`, `3 files`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
