/** `flashyard logs --serial`: what a device says on its port, as it comes, until Ctrl-C. */
import { UsageError } from "#protocol/errors.ts";
import { serialLogBaud } from "#protocol/serial.ts";
import { readSerialLogOf, type SerialLogNews } from "#bus/serial-log.ts";
import { shown } from "#cli/clean-text.ts";
import { type AgentPort, portsOf } from "#cli/commands/ports.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import { Farm } from "#cli/farm.ts";
import { count } from "#cli/render.ts";
import type { Session } from "#cli/session.ts";

export interface SerialLogOptions {
  readonly serial: string;
  readonly agent?: string;
  readonly baud?: number;
  readonly json?: boolean;
}

export async function runSerialLog(session: Session, options: SerialLogOptions): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { agents } = await farm.ask({ v: 1, kind: "agents" }, "agents");
  const { agent, port } = chosenPort(portsOf(agents), options);
  const { clock, interrupted, terminal } = session;
  const reading = { agent, port: port.id, baud: options.baud ?? serialLogBaud, clock, signal: interrupted };
  for await (const news of readSerialLogOf(farm.connection, reading)) {
    if (options.json === true) terminal.json({ ...news, v: undefined, agent, port: port.id });
    else show(session, `${port.id} at ${agent}`, news);
    if (news.kind === "ended") return exitCodes.failed;
  }
  return exitCodes.done;
}

/** @throws UsageError `no-port`, `several-ports` */
function chosenPort(ports: readonly AgentPort[], { serial, agent }: SerialLogOptions): AgentPort {
  const fitting = ports.filter(
    ({ agent: has, port: { id, path } }) =>
      (id === serial || path === serial) && (agent === undefined || has === agent),
  );
  const [one, ...more] = fitting;
  if (one === undefined) {
    const where = agent === undefined ? "no upload agent that is online has" : `${agent} is not online, or has not`;
    throw new UsageError("no-port", `${where} a port ${JSON.stringify(serial)}; \`flashyard ports\` lists them`);
  }
  if (more.length === 0) return one;
  const names = fitting.map(({ agent: has }) => has).join(", ");
  throw new UsageError("several-ports", `${JSON.stringify(serial)} is a port of ${names}: say which with --agent`);
}

function show({ terminal }: Session, where: string, news: SerialLogNews): void {
  switch (news.kind) {
    case "opened":
      return terminal.note(`reading ${where}; Ctrl-C ends it`);
    case "lines":
      if (news.leftOut > 0) terminal.note(`… ${count(news.leftOut, "line")} left out: they came too fast`);
      for (const line of news.lines) terminal.line(shown(line));
      return;
    case "paused":
      return terminal.note(`${where}: ${shown(pauseWords[news.why](news.detail ?? "somebody uses it"))}`);
    case "away":
      return terminal.note(`${where}: the agent has gone; waiting for it`);
    case "ended":
      return terminal.note(`${where}: ${shown(news.detail ?? "the agent ends")}`);
  }
}

const pauseWords: Readonly<Record<Extract<SerialLogNews, { kind: "paused" }>["why"], (detail: string) => string>> = {
  flash: () => "given up for a flash; it is read again afterwards",
  unplugged: () => "it was unplugged; it is read again when it is back",
  busy: (detail) => `it cannot be read now (${detail}); trying again`,
};
