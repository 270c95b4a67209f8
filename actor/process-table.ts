/** The processes of this machine, as `/proc` lists them; on another system there are none. */
import { readdirSync, readFileSync } from "node:fs";

export interface ListedProcess {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  readonly memoryBytes: number;
  /** Ended, and not reaped by its parent yet. */
  readonly isDead: boolean;
}

/** The smallest size of a page there is; asking for the real one takes a program. */
const pageBytes = 4096;

export function listProcesses(): readonly ListedProcess[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      // Behind the name: state, parent, group, session; the resident pages are the 24th field of all (proc_pid_stat(5)).
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const [state = "", parent, , session] = fields;
      return [
        {
          pid: Number(name),
          parent: Number(parent),
          session: Number(session),
          memoryBytes: Number(fields[21]) * pageBytes,
          isDead: state === "Z" || state === "X",
        },
      ];
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}

/** The leaders, their sessions, and whatever descends from those. */
export function familyOf(leaders: ReadonlySet<number>, listed: readonly ListedProcess[]): ReadonlySet<number> {
  const isOfLeader = ({ pid, session }: ListedProcess) => leaders.has(pid) || leaders.has(session);
  const family = new Set(listed.filter(isOfLeader).map(({ pid }) => pid));
  // Until nothing is added: a child may be listed before its parent.
  for (let before = -1; before < family.size;) {
    before = family.size;
    for (const { pid, parent } of listed) if (family.has(parent)) family.add(pid);
  }
  return family;
}
