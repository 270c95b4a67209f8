/** The verdict as a table for people. Pure. */
import { faultKinds, type Fault } from "#test/chaos/fault-plan.ts";
import { type Evidence, flashesIn, promises, type Verdict } from "#test/chaos/judge.ts";

const meanings: Readonly<Record<(typeof promises)[number], string>> = {
  lost: "accepted and gone",
  double: "flashed twice, at once, or for nobody",
  late: "flashed after a cancel was answered",
  stuck: "never ended",
  untrue: "reported otherwise than it is",
};

/** A column with names in the first, numbers in the second place. */
function rows(title: string, counts: ReadonlyMap<string, number>): readonly string[] {
  return [title, ...[...counts].map(([name, count]) => `  ${name.padEnd(36)}${String(count).padStart(6)}`)];
}

function count<T>(items: readonly T[], nameOf: (item: T) => string): ReadonlyMap<string, number> {
  const groups = Map.groupBy(items, nameOf);
  return new Map([...groups].map(([name, group]) => [name, group.length]));
}

export function faultRows(faults: readonly Fault[]): readonly string[] {
  const group = ({ kind, victim }: Fault) => `${kind} ${victim.replace(/-\d+/, "")}`;
  const inOrder = faults.toSorted(
    (a, b) => faultKinds.indexOf(a.kind) - faultKinds.indexOf(b.kind) || group(a).localeCompare(group(b)),
  );
  return rows(`faults: ${faults.length}`, count(inOrder, group));
}

export function chainRows({ requests }: Evidence): readonly string[] {
  const end = ({ isAccepted, record }: Evidence["requests"][number]) => {
    if (record === undefined) return isAccepted ? "in no record" : "never accepted";
    return record.level === undefined ? record.upload : `${record.upload}, ${record.level}`;
  };
  const inOrder = requests.toSorted((a, b) => end(a).localeCompare(end(b)));
  return rows(`chains: ${requests.length}`, count(inOrder, end));
}

export function sessionRows({ requests, sessions }: Evidence): readonly string[] {
  const flashes = flashesIn(sessions);
  const seconds = requests
    .flatMap(({ record }) => (record?.flashMs === undefined ? [] : [Math.round(record.flashMs / 1000)]))
    .toSorted((a, b) => a - b);
  return rows(
    `sessions at the devices: ${sessions.length}`,
    new Map([
      ["with bytes of an image", flashes.length],
      ["broken off within the image", flashes.filter(({ isWhole }) => !isWhole).length],
      ["acknowledged by the device", flashes.filter(({ isCommitted }) => isCommitted).length],
      ["claim to end, s: median", seconds[Math.floor(seconds.length / 2)] ?? 0],
      ["claim to end, s: longest", seconds.at(-1) ?? 0],
    ]),
  );
}

export function verdictRows(verdict: Verdict): readonly string[] {
  return promises.flatMap((promise) => {
    const line = `${String(verdict[promise].length).padStart(4)} ${promise.padEnd(8)}${meanings[promise]}`;
    return [line].concat(verdict[promise].map((sentence) => `       ${sentence}`));
  });
}
