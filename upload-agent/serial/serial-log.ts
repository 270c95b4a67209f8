/**
 * What a device prints on its port, line by line. It owns the port meanwhile, and gives it up at once when somebody of the same
 * process wants to flash there.
 */
import { untilFired } from "#actor/until-fired.ts";
import type { Clock } from "#actor/clock.ts";
import { LineSplitter } from "#actor/line-splitter.ts";
import type { Failure } from "#protocol/failure.ts";
import { logLineBytesMax } from "#protocol/limits.ts";
import type { PortId } from "#protocol/serial.ts";
import { holderOf, type PortOwners } from "#upload-agent/serial/port-owner.ts";
import { openForReading, type SerialPorts } from "#upload-agent/serial/ports.ts";

/** Whoever wants to read does not wait for a flash. */
const ownMsMax = 2_000;

export interface SerialLogOptions {
  readonly ports: Pick<SerialPorts, "find">;
  readonly owners: PortOwners;
  readonly clock: Clock;
  readonly baud: number;
  readonly signal: AbortSignal;
  /** From now on nothing is missed; what was printed before is gone. */
  readonly onOpen?: () => void;
  /** As fast as the port carries them; each of no more than `logLineBytesMax`. */
  onLine(line: string): void;
}

export type SerialLogEnd =
  /** By the signal. */
  | { readonly kind: "stopped" }
  /** The port is gone. */
  | { readonly kind: "closed" }
  /** Somebody flashes there now; it may be opened again afterwards. */
  | { readonly kind: "yielded" }
  | { readonly kind: "failed"; readonly failure: Failure };

/** Reads until something ends it. Failures: `port-missing`, `port-busy`. Throws what the file system throws (the lock). */
export async function readSerialLog(id: PortId, options: SerialLogOptions): Promise<SerialLogEnd> {
  const { signal, clock } = options;
  const port = await options.ports.find(id);
  if (port === undefined)
    return failed({ kind: "port-missing", port: id, detail: "nothing of that name is plugged in" });
  const isAsked = new AbortController();
  const owned = await options.owners.own(port.path, { signal, waitMs: ownMsMax, onAsked: () => isAsked.abort() });
  if (owned.kind === "stopped") return { kind: "stopped" };
  if (owned.kind === "busy") {
    return failed({ kind: "port-busy", port: id, detail: `process ${owned.holderPid ?? "unknown"} uses it` });
  }
  await using _lock = owned.lock;
  const lines = new LineSplitter(logLineBytesMax, (line) => options.onLine(line));
  const opened = await openForReading(port.path, options.baud, clock, (bytes) => lines.push(bytes));
  if ("refused" in opened) {
    const holder = await holderOf(port.path);
    return failed({
      kind: "port-busy",
      port: id,
      detail: holder === undefined ? opened.refused : `${holder} has locked it`,
    });
  }
  await using open = opened;
  options.onOpen?.();
  const over = AbortSignal.any([signal, isAsked.signal]);
  await Promise.race([open.closed, untilFired(over)]);
  lines.end();
  if (signal.aborted) return { kind: "stopped" };
  return isAsked.signal.aborted ? { kind: "yielded" } : { kind: "closed" };
}

function failed(failure: Failure): SerialLogEnd {
  return { kind: "failed", failure };
}
