/** Ports that the owner of a machine names himself (`FLASHYARD_PORTS`): what has no name of its own that stays. */
import { UsageError } from "#protocol/errors.ts";
import { PortId } from "#protocol/serial.ts";

/** As many as a machine has sockets, with hubs. */
const namedMax = 64;

/**
 * @param text `bench=/dev/ttyS1,spare=/dev/pts/3`
 * @throws UsageError `bad-setting` with the variable's name and value
 */
export function readNamedPorts(text: string | undefined): ReadonlyMap<PortId, string> {
  const parts = (text ?? "").split(",").flatMap((part) => (part.trim() === "" ? [] : [part.trim()]));
  const named = new Map<PortId, string>();
  for (const part of parts) {
    const [, name = "", path = ""] = /^([^=]*)=(.+)$/.exec(part) ?? [];
    const id = PortId.safeParse(name);
    if (!id.success || path === "") throw bad(text, "ports are written as name=/dev/path, several separated by commas");
    if (named.has(id.data)) throw bad(text, `${name} is there twice`);
    if ([...named.values()].includes(path)) throw bad(text, `${path} has two names`);
    named.set(id.data, path);
  }
  if (named.size > namedMax) throw bad(text, `at most ${namedMax} can be named`);
  return named;
}

function bad(text: string | undefined, rule: string): UsageError {
  return new UsageError("bad-setting", `FLASHYARD_PORTS is ${JSON.stringify(text ?? "")}: ${rule}`);
}
