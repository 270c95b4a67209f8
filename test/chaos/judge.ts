/**
 * The verdict over a farm that was mistreated: from what the user was answered, what the proxies saw pass to the devices,
 * what the committed records say, and which program each device runs. Pure.
 *
 * 1. lost: a chain that was accepted is in no record.
 * 2. double: a device got more than one session with bytes of an image for one request, two such sessions at once, or an
 *    image that nobody had asked for there.
 * 3. late: a device got the first byte of an image after the user had been told that its upload is cancelled.
 * 4. stuck: a chain that has not ended.
 * 5. untrue: a record says something else of the device than the proxies saw or the device says.
 */
import type { JobState } from "#protocol/job.ts";

export interface JudgedRequest {
  readonly chain: string;
  readonly device: string;
  /** The user was told `accepted`. Without it the farm may know the request or not. */
  readonly isAccepted: boolean;
  /** When the user was told that its upload is cancelled or superseded (ms since 1970). */
  readonly stoppedAt?: number;
  /** Absent when neither the live records nor the history have it. */
  readonly record?: JudgedRecord;
}

export interface JudgedRecord {
  /** Of all of its jobs. */
  readonly isFinished: boolean;
  readonly upload: JobState;
  /** Of a success. */
  readonly level?: string;
  /** From the flash claim to the end; for the table only. */
  readonly flashMs?: number;
}

/** A connection to a device's update server. */
export interface JudgedSession {
  readonly device: string;
  /** The request whose image was announced; undefined when the image is nobody's, or was not announced. */
  readonly chain?: string;
  readonly dataBytes: number;
  /** The device was given all of the image. */
  readonly isWhole: boolean;
  /** The device said `45`. */
  readonly isCommitted: boolean;
  /** When the first byte of the image passed. */
  readonly dataAt?: number;
  /** When the device's side was over; absent while it is open. */
  readonly endedAt?: number;
}

export interface JudgedDevice {
  readonly name: string;
  /** The request whose image it runs, by its own word; undefined for the factory's. */
  readonly runs?: string;
}

export interface Evidence {
  readonly requests: readonly JudgedRequest[];
  readonly sessions: readonly JudgedSession[];
  readonly devices: readonly JudgedDevice[];
}

export const promises = ["lost", "double", "late", "stuck", "untrue"] as const;
/** Sentences, one a violation. */
export type Verdict = Readonly<Record<(typeof promises)[number], readonly string[]>>;

export function judge(evidence: Evidence): Verdict {
  return {
    lost: evidence.requests
      .filter(({ isAccepted, record }) => isAccepted && record === undefined)
      .map(({ chain }) => `${chain} was accepted and is in no record`),
    double: doubleFlashes(evidence),
    late: lateFlashes(evidence),
    stuck: evidence.requests
      .filter(({ record }) => record?.isFinished === false)
      .map(({ chain, record }) => `${chain} has not ended: its upload is ${record?.upload ?? "unknown"}`),
    untrue: [...untrueRecords(evidence), ...untrueDevices(evidence)],
  };
}

export function isClean(verdict: Verdict): boolean {
  return promises.every((promise) => verdict[promise].length === 0);
}

/** Sessions by which a device got something of an image. */
export function flashesIn(sessions: readonly JudgedSession[]): readonly JudgedSession[] {
  return sessions.filter(({ dataBytes }) => dataBytes > 0);
}

function doubleFlashes(evidence: Evidence): readonly string[] {
  const flashes = flashesIn(evidence.sessions);
  const repeated = [...Map.groupBy(flashes, ({ chain }) => chain)]
    .filter(([chain, sessions]) => chain !== undefined && sessions.length > 1)
    .map(([chain, sessions]) => `${chain} was flashed in ${sessions.length} sessions`);
  const overlapping = [...Map.groupBy(flashes, ({ device }) => device).values()].flatMap(overlaps);
  return [...repeated, ...overlapping, ...unasked(flashes, evidence.requests)];
}

/** Among the flashes of one device. */
function overlaps(flashes: readonly JudgedSession[]): readonly string[] {
  const found: string[] = [];
  let open: JudgedSession | undefined;
  for (const flash of flashes.toSorted((a, b) => (a.dataAt ?? 0) - (b.dataAt ?? 0))) {
    if (open !== undefined && (flash.dataAt ?? 0) < endOf(open)) {
      found.push(`${flash.device} got ${flash.chain ?? "an image"} while ${open.chain ?? "another"} was on its way`);
    }
    if (open === undefined || endOf(flash) > endOf(open)) open = flash;
  }
  return found;
}

/** Images at a device for which nobody has asked there. */
function unasked(flashes: readonly JudgedSession[], requests: readonly JudgedRequest[]): readonly string[] {
  const devices = new Map(requests.map(({ chain, device }) => [chain, device]));
  return flashes.flatMap(({ chain, device }) => {
    if (chain === undefined) return [`${device} got an image that is of no request`];
    const wanted = devices.get(chain);
    return wanted === device ? [] : [`${device} got ${chain}, which was asked for ${wanted ?? "no device"}`];
  });
}

function endOf({ endedAt }: JudgedSession): number {
  return endedAt ?? Number.POSITIVE_INFINITY;
}

function lateFlashes({ requests, sessions }: Evidence): readonly string[] {
  return requests.flatMap(({ chain, device, stoppedAt }) =>
    flashesOf(chain, sessions)
      .filter(({ dataAt }) => stoppedAt !== undefined && (dataAt ?? 0) >= stoppedAt)
      .map(({ dataAt }) => `${device} got ${chain} ${(dataAt ?? 0) - (stoppedAt ?? 0)} ms after it was called off`),
  );
}

function flashesOf(chain: string, sessions: readonly JudgedSession[]): readonly JudgedSession[] {
  return flashesIn(sessions).filter((session) => session.chain === chain);
}

/** Each record against the sessions of its own request. */
function untrueRecords({ requests, sessions }: Evidence): readonly string[] {
  return requests.flatMap(({ chain, device, record }) => {
    const flashes = flashesOf(chain, sessions);
    const upload = record?.upload;
    if (upload === "succeeded" && !flashes.some(({ isWhole }) => isWhole)) {
      return [`${chain} is succeeded, and ${device} never got all of its image`];
    }
    if (upload === "cancelled" && flashes.length > 0) {
      return [`${chain} is cancelled, and ${device} got bytes of its image`];
    }
    // A failure that leaves the device in doubt ends as unknown; a host device runs what it has taken.
    if (upload === "failed" && flashes.some(({ isCommitted }) => isCommitted)) {
      return [`${chain} is failed, and ${device} took its image`];
    }
    return [];
  });
}

/** What each device runs against the records and the sessions that it had. */
function untrueDevices({ requests, sessions, devices }: Evidence): readonly string[] {
  const records = new Map(requests.map(({ chain, record }) => [chain, record]));
  return devices.flatMap(({ name, runs }) => {
    const found: string[] = [];
    const running = runs === undefined ? undefined : records.get(runs);
    if (running?.upload === "cancelled" || running?.upload === "failed") {
      found.push(`${name} runs ${runs}, whose upload is ${running.upload}`);
    }
    const last = flashesIn(sessions)
      .filter(({ device, isWhole }) => device === name && isWhole)
      .toSorted((a, b) => endOf(a) - endOf(b))
      .at(-1);
    const claimed = last?.chain === undefined ? undefined : records.get(last.chain);
    if (claimed?.upload === "succeeded" && claimed.level === "running" && last?.chain !== runs) {
      found.push(
        `${last?.chain} is succeeded and was the last flash of ${name}, which runs ${runs ?? "the factory's program"}`,
      );
    }
    return found;
  });
}
