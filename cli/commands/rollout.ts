/** `flashyard rollout`: how rollouts stand, and what a person may say to them. */
import type { AdminRequest } from "#protocol/admin.ts";
import { UsageError } from "#protocol/errors.ts";
import { ChainId } from "#protocol/ids.ts";
import type { RolloutAction, RolloutState, RolloutView, WaveView } from "#protocol/rollout.ts";
import { shown } from "#cli/clean-text.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { ago, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface RolloutViewOptions {
  readonly json?: boolean;
}

/** Those that are not over. */
export async function runRolloutLs(session: Session, { json = false }: RolloutViewOptions): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { rollouts } = await farm.ask({ v: 1, kind: "rollouts" }, "rollouts");
  const { terminal, clock } = session;
  if (json) for (const rollout of rollouts) terminal.json(rollout);
  else if (rollouts.length === 0) terminal.line("no rollout is under way");
  else {
    const rows = rollouts.map(({ id, state, createdAt, waves, failed }) => [
      id,
      state,
      ago(createdAt, clock.now()),
      `${sum(waves, "done")} of ${waves.reduce((all, wave) => all + sizeOf(wave), 0)}`,
      `${failed.length}`,
    ]);
    for (const line of table(["ROLLOUT", "STATE", "ASKED", "DONE", "FAILED"], rows)) terminal.line(line);
  }
  return exitCodes.done;
}

/** One of them, also an old one. Exit code 1 when it has stopped or more failed than may. */
export async function runRolloutStatus(session: Session, name: string, options: RolloutViewOptions): Promise<ExitCode> {
  return codeOf(await shownAnswer(session, { v: 1, kind: "rollouts", id: rolloutNamed(name) }, options));
}

export async function runRolloutChange(
  session: Session,
  name: string,
  action: RolloutAction,
  options: RolloutViewOptions,
): Promise<ExitCode> {
  await shownAnswer(session, { v: 1, kind: "change-rollout", id: rolloutNamed(name), action }, options);
  return exitCodes.done;
}

/** Asks, and shows the rollouts that are answered. */
async function shownAnswer(
  session: Session,
  request: AdminRequest,
  { json: isJson = false }: RolloutViewOptions,
): Promise<readonly RolloutView[]> {
  await using farm = await Farm.open(session);
  const { rollouts } = await farm.ask(request, "rollouts");
  for (const rollout of rollouts) show(session, rollout, isJson);
  return rollouts;
}

function show({ terminal }: Session, rollout: RolloutView, isJson: boolean): void {
  if (isJson) return terminal.json(rollout);
  for (const line of rolloutLines(rollout)) terminal.line(line);
}

const sentenceOf: Readonly<Record<RolloutState, (rollout: RolloutView) => string>> = {
  going: () => "is going on",
  paused: ({ id }) =>
    `is paused: \`flashyard rollout resume ${id}\` goes on, \`flashyard rollout abort ${id}\` ends it`,
  stopped: ({ id, failed, failuresMax }) =>
    `has stopped, because ${failed.length} failed and ${failuresMax} may: \`flashyard rollout resume ${id}\` goes on, \`flashyard rollout abort ${id}\` ends it`,
  ended: () => "is over",
};

function rolloutLines(rollout: RolloutView): readonly string[] {
  const { id, state, waves, failed } = rollout;
  const rows = waves.map((wave) => [wave.wave, ...stages.map((stage) => wave[stage] || "")].map(String));
  return [
    `rollout ${id} ${sentenceOf[state](rollout)}`,
    ...table(["WAVE", ...stages.map((stage) => stage.toUpperCase())], rows),
    ...failed.map(({ configuration, reason }) => `  ${shown(configuration)}: ${shown(reason)}`),
  ];
}

const stages = ["building", "waiting", "flashing", "confirming", "done", "failed", "cancelled"] as const;

function sizeOf(wave: WaveView): number {
  return stages.reduce((all, stage) => all + wave[stage], 0);
}

function sum(waves: readonly WaveView[], stage: (typeof stages)[number]): number {
  return waves.reduce((all, wave) => all + wave[stage], 0);
}

function codeOf(rollouts: readonly RolloutView[]): ExitCode {
  const isBad = rollouts.some(
    ({ state, failed, failuresMax }) => state === "stopped" || (state === "ended" && failed.length > failuresMax),
  );
  return isBad ? exitCodes.failed : exitCodes.done;
}

/** @throws UsageError `bad-rollout` */
function rolloutNamed(text: string): ChainId {
  const id = ChainId.safeParse(text);
  if (id.success) return id.data;
  throw new UsageError("bad-rollout", `${JSON.stringify(text)} is no rollout; \`flashyard rollout ls\` lists them`);
}
