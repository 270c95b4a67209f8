/** `flashyard ports`: the serial ports of the agents that flash. */
import type { AgentView } from "#protocol/admin.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { SerialPortView } from "#protocol/serial.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { table } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

/** A port with the agent that has it. */
export interface AgentPort {
  readonly agent: AgentId;
  readonly port: SerialPortView;
}

export async function runPorts(
  session: Session,
  { json: isJson = false }: { readonly json?: boolean },
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  const ports = portsOf(agents);
  const { terminal } = session;
  if (isJson) for (const { agent, port } of ports) terminal.json({ agent, ...port });
  else if (ports.length === 0) terminal.line(nothingThere(agents));
  else for (const line of portTable(ports, terminal.isLive ? terminal.size().columns : undefined)) terminal.line(line);
  return exitCodes.done;
}

/** Of every upload agent that is online, by agent and port. Pure. */
export function portsOf(agents: readonly AgentView[]): readonly AgentPort[] {
  return agents
    .filter(({ online }) => online)
    .flatMap(({ announcement: { agent, upload } }) => (upload?.ports ?? []).map((port) => ({ agent, port })))
    .toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
}

function nameOf({ agent, port }: AgentPort): string {
  return `${agent} ${port.id}`;
}

function portTable(ports: readonly AgentPort[], columns?: number): readonly string[] {
  const rows = ports.map(({ agent, port: { id, path, manufacturer, vendorId, productId, serialNumber } }) => [
    agent,
    id,
    path,
    manufacturer ?? "",
    vendorId === undefined || productId === undefined ? "" : `${vendorId}:${productId}`,
    serialNumber ?? "",
  ]);
  return table(["AGENT", "PORT", "PATH", "MADE BY", "USB", "SERIAL NUMBER"], rows, columns);
}

function nothingThere(agents: readonly AgentView[]): string {
  const isUpload = agents.some(({ announcement, online }) => online && announcement.lane === "upload");
  if (!isUpload) return "no upload agent is online: `flashyard up` starts one, deploy/README.md has the others";
  return (
    "no upload agent sees a serial port: plug a device in beside one; on Linux the agent's user must be in the group " +
    "dialout, and a port without a name of its own is named by FLASHYARD_PORTS (docs/serial.md)"
  );
}
