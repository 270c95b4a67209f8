/** What a process uses, as Linux says it. */
import { readFile } from "node:fs/promises";

export interface ProcessFigures {
  readonly residentMb: number;
  /** The most that was resident at any time. */
  readonly peakMb: number;
  /** User and system time so far. */
  readonly processorMs: number;
}

/** Of one clock tick, which is 1/100 s on every Linux that Node runs on. */
const tickMs = 10;

export async function figuresOf(pid: number): Promise<ProcessFigures> {
  const [status, stat] = await Promise.all([
    readFile(`/proc/${pid}/status`, "utf8"),
    readFile(`/proc/${pid}/stat`, "utf8"),
  ]);
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? Number.NaN);
  // Behind the name, which may hold anything: fields 14 and 15 of proc(5).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    residentMb: kilobytes("VmRSS") / 1024,
    peakMb: kilobytes("VmHWM") / 1024,
    processorMs: (Number(fields[11]) + Number(fields[12])) * tickMs,
  };
}
