/** `flashyard clean`: takes the build trees of configurations away, on every agent that has one. */
import type { ExitCode } from "#cli/exit-codes.ts";
import { configurationNamed } from "#cli/configuration-files.ts";
import { Farm } from "#cli/farm.ts";
import type { Session } from "#cli/session.ts";
import { takeTreesAway } from "#cli/tree-removal.ts";

export async function runClean(
  session: Session,
  names: readonly string[],
  { detach: isDetached = false, json: isJson = false }: { readonly detach?: boolean; readonly json?: boolean },
): Promise<ExitCode> {
  const configurations = new Set(names.map(configurationNamed));
  await using farm = await Farm.open(session);
  return await takeTreesAway(session, farm, [...configurations], { isDetached, isJson });
}
