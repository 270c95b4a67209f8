/** Figures of all cuts → the table and the verdict. Pure. */
import type { Setting } from "#test/power-cut/crash-rig.ts";
import type { Survivors } from "#test/power-cut/survivors.ts";

export interface CutFigures extends Survivors {
  readonly busyMs: number;
  readonly accepted: number;
  readonly cancelled: number;
  /** Asked for and not answered when the power went: they may be there or not. */
  readonly open: number;
  /** Why the farm did not come up again. */
  readonly trouble?: string;
}

export type CutsOf = Readonly<Record<Setting, readonly CutFigures[]>>;

const columns = [
  ["busy s", ({ busyMs }) => (busyMs / 1000).toFixed(2)],
  ["accepted", ({ accepted }) => accepted],
  ["unanswered", ({ open }) => open],
  ["found", ({ found }) => found],
  ["LOST", lostIn],
  ["cancelled", ({ cancelled }) => cancelled],
  ["still so", ({ stillCancelled }) => stillCancelled],
  ["coordinator knows", ({ answered }) => answered],
] as const satisfies readonly (readonly [string, (figures: CutFigures) => number | string])[];

/** Chains that were answered `accepted` and are nowhere. */
export function lostIn({ accepted, found }: CutFigures): number {
  return accepted - found;
}

export function header(): string {
  return ["", ...columns.map(([title]) => title)].map(cell).join("");
}

export function row(setting: Setting, figures: CutFigures): string {
  const cells = [setting, ...columns.map(([, of]) => of(figures))].map(cell).join("");
  return figures.trouble === undefined ? cells : `${cells}  ${figures.trouble}`;
}

function cell(value: string | number, index: number): string {
  const text = String(value);
  return index === 0 ? text.padEnd(13) : text.padStart(Math.max(11, (columns[index - 1]?.[0].length ?? 0) + 2));
}

export interface Verdict {
  readonly isProven: boolean;
  readonly lines: readonly string[];
}

/**
 * Proven when flashyard's settings have kept every promise in every cut, and the same rig shows a loss without them: a rig that
 * never shows one would prove nothing.
 */
export function verdictOn(cuts: CutsOf): Verdict {
  const ours = totalOf(cuts.flashyard);
  const second = totalOf(cuts["one-second"]);
  const theirs = totalOf(cuts["nats-default"]);
  const isKept = ours.accepted > 0 && ours.lost === 0 && ours.uncancelled === 0 && ours.unknown === 0;
  const further = [
    ours.uncancelled === 0 ? "" : `; ${ours.uncancelled} cancelled chains came back to life`,
    ours.unknown === 0 ? "" : `; the coordinator does not know ${ours.unknown} of those found`,
  ].join("");
  // A farm that did not come up again may have lost nothing but our patience.
  const isLossShown = cuts["nats-default"].some((cut) => cut.trouble === undefined && lostIn(cut) > 0);
  const expectation = isLossShown ? "> 0 expected" : "> 0 expected: this rig proves nothing";
  return {
    isProven: isKept && isLossShown,
    lines: [
      `flashyard's settings: acknowledged ${ours.accepted}, found ${ours.found}, lost ${ours.lost}${further}`,
      `sync_interval 1s: acknowledged ${second.accepted}, found ${second.found}, lost ${second.lost} (for comparison)`,
      `NATS's default: acknowledged ${theirs.accepted}, found ${theirs.found}, lost ${theirs.lost} (${expectation})`,
    ],
  };
}

function totalOf(cuts: readonly CutFigures[]) {
  const sum = (of: (figures: CutFigures) => number) => cuts.reduce((total, figures) => total + of(figures), 0);
  return {
    accepted: sum(({ accepted }) => accepted),
    found: sum(({ found }) => found),
    lost: sum(lostIn),
    uncancelled: sum(({ cancelled, stillCancelled }) => cancelled - stillCancelled),
    unknown: sum(({ found, answered }) => found - answered),
  };
}
