/** Devices that a person keeps from bulks. */
import type { Configuration } from "#protocol/ids.ts";
import type { DeviceNote } from "#protocol/records.ts";
import { shown } from "#cli/clean-text.ts";
import type { ConfigurationFile } from "#cli/configuration-files.ts";
import type { AnswerOf, Farm } from "#cli/farm.ts";
import type { Session } from "#cli/session.ts";

/** The files whose devices are not on hold; the others are said. @throws UnavailableError */
export async function withoutHeld<T extends ConfigurationFile>(
  { terminal }: Session,
  farm: Farm,
  files: readonly T[],
): Promise<readonly T[]> {
  const held = holdsIn(await farm.ask({ v: 1, kind: "devices" }, "devices"));
  return files.filter(({ configuration }) => {
    const note = held.get(configuration);
    if (note === undefined) return true;
    const why = note.reason === undefined ? "" : ` (${shown(note.reason)})`;
    terminal.note(`${shown(configuration)} is on hold${why} and left out`);
    return false;
  });
}

/** Pure. */
export function holdsIn({ notes = [] }: AnswerOf<"devices">): ReadonlyMap<Configuration, DeviceNote> {
  return new Map(notes.filter(({ isHeld }) => isHeld).map((note) => [note.configuration, note]));
}
