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

/** Secrets never reach a log, whatever object is logged. */
const redact = ["password", "*.password", "*.*.password", "encryptionKey", "*.encryptionKey", "*.*.encryptionKey"];

/** @param level a pino level; `silent` turns the log off (tests). */
export function createLog(fields: LogFields, level = "info"): Log {
  return pino(
    { level, base: fields, redact, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  );
}

export const silentLog: Log = createLog({}, "silent");
