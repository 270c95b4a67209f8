/** `flashyard agents`: who works the lanes. */
import type { AgentView } from "#protocol/admin.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { duration, size, table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export async function runAgents(
  session: Session,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  const sorted = agents.toSorted((a, b) => (a.announcement.agent < b.announcement.agent ? -1 : 1));
  const { terminal, clock } = session;
  if (isJson) for (const agent of sorted) terminal.json(agent);
  else if (sorted.length === 0) terminal.line("no agent has announced itself: start one with `flashyard up`");
  else
    for (const line of agentTable(sorted, clock.now(), terminal.isLive ? terminal.size().columns : undefined))
      terminal.line(line);
  return exitCodes.done;
}

/** Pure. */
export function agentTable(agents: readonly AgentView[], now: number, columns?: number): readonly string[] {
  const rows = agents.map(({ announcement, busy, online, isDrained }) => {
    const { agent, lane, labels = [], slots, idleSince, compile, host, version } = announcement;
    const made = compile?.esphomeVersions.join(" ") ?? "";
    const pins = [...(compile?.pinnedVersions ?? []), ...(compile?.pinnedPlatforms ?? [])];
    const only = pins.length === 0 ? "" : `(only ${pins.join(" ")})`;
    return [
      agent,
      lane,
      online ? (isDrained ? "drained" : "online") : isDrained ? "away, drained" : "away",
      `${busy} of ${slots}`,
      !online || idleSince === null ? "" : duration(now - idleSince),
      labels.join(" "),
      compile === undefined ? "" : [made, compile.makesEnvironments ? "(makes others)" : "", only].join(" ").trim(),
      compile?.sandbox ?? "",
      compile === undefined ? "" : `${compile.cpus} CPUs, ${size(compile.memoryBytes)}`,
      host,
      version,
    ];
  });
  return table(
    ["AGENT", "LANE", "STATE", "BUSY", "IDLE FOR", "LABELS", "ESPHOME", "SANDBOX", "MACHINE", "HOST", "VERSION"],
    rows,
    columns,
  );
}
