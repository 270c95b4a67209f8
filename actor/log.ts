/**
 * Logs of a process: one JSON line an event, on stderr so that stdout stays free for answers. Fixed field names, the same in
 * every process: `chain`, `job`, `attempt`, `agent`, `lane`, `configuration`, `err`.
 */
import pino, { type Logger } from "pino";

export type Log = Pick<Logger, "debug" | "info" | "warn" | "error" | "fatal"> & { child(fields: LogFields): Log };

export interface LogFields {
  readonly role?: string;
  readonly agent?: string;
  readonly lane?: string;
  readonly chain?: string;
  readonly job?: string;
  readonly attempt?: number;
  readonly configuration?: string;
}

/** Of devices' targets and of credentials. */
const secretNames: ReadonlySet<string> = new Set(["password", "encryptionKey", "seed", "unseal", "token", "secret"]);
/** What is deeper is for no reader of a log. */
const depthMax = 8;

/** Secrets never reach a log, whatever is logged and however deep they lie in it. Sealed ones neither. */
function withoutSecrets(value: unknown, depth = 0): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (depth > depthMax) return "[too deep]";
  if (Array.isArray(value)) return value.map((one) => withoutSecrets(one, depth + 1));
  // Errors, dates and buffers are pino's.
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [
      name,
      secretNames.has(name) ? "[hidden]" : withoutSecrets(one, depth + 1),
    ]),
  );
}

/** @param level a pino level; `silent` turns the log off (tests). */
export function createLog(fields: LogFields, level = "info"): Log {
  return pino(
    {
      level,
      base: fields,
      formatters: { log: (logged) => withoutSecrets(logged) as Record<string, unknown> },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

export const silentLog: Log = createLog({}, "silent");
