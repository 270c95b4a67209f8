/** The user that builds run as, and whether this process may start something as another user. */
import { readFileSync } from "node:fs";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { hasSucceeded } from "#toolchain/process-end.ts";

export interface BuildUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Looking into the user database takes milliseconds; one in the network may hang. */
const lookupMsMax = 10_000;

/** Numbers of linux/capability.h: what giving trees away and back, and starting and ending a build, takes. */
const needed = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_FOWNER: 3,
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
} as const;

/** @param named a user's name, or `uid:gid`, which needs no entry in the user database. @returns the user, or why there is none. */
export async function findBuildUser(named: string): Promise<BuildUser | string> {
  const user = /^\d+:\d+$/.test(named) ? { name: named, ...idsOf(named) } : await lookUp(named);
  if (typeof user === "string") return user;
  if (user.uid === 0 || user.gid === 0) return `${named} is root, which a build must not be: name another user`;
  if (user.uid === process.getuid?.()) return `${named} is the user of this agent itself: name another one`;
  return user;
}

function idsOf(text: string): Pick<BuildUser, "uid" | "gid"> {
  const [uid = 0, gid = 0] = text.split(":").map(Number);
  return { uid, gid };
}

async function lookUp(name: string): Promise<BuildUser | string> {
  const lines: string[] = [];
  const result = await runProcess({
    argv: ["getent", "passwd", name],
    env: plainEnvironment(),
    totalMs: lookupMsMax,
    onLine: (line) => lines.push(line),
  });
  // passwd(5): name, password, uid, gid.
  const [, , uid, gid] = hasSucceeded(result) ? (lines[0] ?? "").split(":") : [];
  if (uid !== undefined && gid !== undefined) return { name, uid: Number(uid), gid: Number(gid) };
  return (
    `there is no user ${name}: make one with \`useradd --system --user-group --no-create-home --shell /usr/sbin/nologin ${name}\`, ` +
    "or name another one in FLASHYARD_BUILD_USER"
  );
}

/** Names of what this process lacks to have builds run as another user; none where it is root. */
export function missingCapabilities(status = readFileSync("/proc/self/status", "utf8")): readonly string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  return Object.entries(needed).flatMap(([name, bit]) => (((effective >> BigInt(bit)) & 1n) === 0n ? [name] : []));
}
