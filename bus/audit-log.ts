/** The audit in its stream: written by the coordinator, read by people, changed by nobody. */
import { AuditEntry } from "#protocol/audit.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { auditSubject, streams } from "#protocol/names.ts";
import { storeAnswerOf } from "#bus/atomic-batch.ts";
import { type Connection, translate } from "#bus/connection.ts";
import { lastSequenceOf, readStream } from "#bus/stream-reader.ts";

/** An entry takes a millisecond, behind a bulk on a slow disk more; whoever asks gives up after four seconds. */
const writeTimeoutMs = 2_000;

/** Resolves when it is on the disk. @throws UnavailableError when it may not be */
export async function writeAudit(connection: Connection, entry: AuditEntry): Promise<void> {
  try {
    const ack = await connection.request(auditSubject, encode(entry), { timeout: writeTimeoutMs });
    const answer = storeAnswerOf(ack.data);
    if (!answer.ok) throw new UnavailableError("not-audited", `the audit takes no entry (${answer.detail})`);
  } catch (error) {
    throw translate(error, "write down who asks; nothing was changed");
  }
}

export interface AuditReading {
  /** Entries from this instant on (ms since 1970). */
  readonly since?: number;
  /** The newest so many that are there. */
  readonly newest?: number;
  /** Go on with what is asked later, until the signal fires. */
  readonly follow?: AbortSignal;
}

/** Oldest first; what cannot be decoded is passed over. @throws UnavailableError */
export async function* readAudit(
  connection: Connection,
  { since = Number.NEGATIVE_INFINITY, newest, follow }: AuditReading,
): AsyncGenerator<AuditEntry> {
  try {
    const { last } = await lastSequenceOf(connection, streams.audit);
    const from = newest === undefined ? {} : { fromSequence: last - newest + 1 };
    const on = follow === undefined ? {} : { follow };
    for await (const message of readStream(connection, streams.audit, { ...from, ...on })) {
      const decoded = decode(AuditEntry, message.data);
      if (decoded.ok && decoded.value.at >= since) yield decoded.value;
    }
  } catch (error) {
    throw translate(error, "read the audit");
  }
}
