/** The command line of bubblewrap (bwrap(1)) for a build. Pure but for looking where a Python is. */
import { readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";

export interface Room {
  readonly source: string;
  readonly home: string;
  readonly readable: readonly string[];
  readonly hasNetwork: boolean;
  readonly processesMax: number;
  readonly fileBytesMax: number;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The private /tmp is memory; a compiler leaves some megabytes there. */
const temporaryBytesMax = 1_000_000_000;
/** What POSIX semaphores and Python's multiprocessing need. */
const sharedMemoryBytesMax = 256_000_000;

const system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/** Of /etc only what programs need to find hosts, users' names, libraries and certificates; the rest holds secrets. */
const ofEtc = [
  "alternatives",
  "ca-certificates",
  "ca-certificates.conf",
  "gai.conf",
  "group",
  "host.conf",
  "hosts",
].concat(
  ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "passwd", "pki"],
  ["protocols", "resolv.conf", "services", "ssl", "timezone"],
);

/** Everything before the build's own command. */
export function bubblewrapArguments(room: Room): readonly string[] {
  const { source, home, readable, hasNetwork, processesMax, fileBytesMax, cwd, env } = room;
  const certificates = [env["SSL_CERT_FILE"], env["SSL_CERT_DIR"]].filter((path) => path?.startsWith("/") === true);
  const readOnly = [...system, ...ofEtc.map((name) => `/etc/${name}`), ...readable, ...certificates];
  return [
    "bwrap",
    // With the leader, which the ledger notes, all of its process namespace dies; it stays in the leader's session, so that this is seen.
    "--die-with-parent",
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    ...(hasNetwork ? [] : ["--unshare-net"]),
    // Nested namespaces would give back what is dropped here: mounting, above all.
    "--disable-userns",
    "--cap-drop",
    "ALL",
    "--hostname",
    "build",
    ...readOnly.flatMap((path) => ["--ro-bind-try", path as string, path as string]),
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--size",
    String(sharedMemoryBytesMax),
    "--tmpfs",
    "/dev/shm",
    "--remount-ro",
    "/dev",
    "--size",
    String(temporaryBytesMax),
    "--tmpfs",
    "/tmp",
    "--bind",
    home,
    home,
    "--bind",
    source,
    source,
    // The record of the bundle's files, which the agent trusts when it unpacks the next one.
    "--ro-bind",
    join(source, ".flashyard"),
    join(source, ".flashyard"),
    // The root itself is memory: without this a build could fill it.
    "--remount-ro",
    "/",
    "--chdir",
    cwd,
    "--",
    // Inside, because the kernel counts processes for each user namespace. It does not count root's; the watch does.
    "prlimit",
    `--nproc=${processesMax}`,
    `--fsize=${fileBytesMax}`,
    "--core=0",
    "--",
  ];
}

/** The installation behind a virtual environment, where it is none of the system's, e.g. of pyenv. */
export async function readableForPython(environment: string): Promise<readonly string[]> {
  const config = await readFile(join(environment, "pyvenv.cfg"), "utf8").catch(() => "");
  const bin = /^home\s*=\s*(.+)$/m.exec(config)?.[1]?.trim();
  const python = await realpath(join(environment, "bin", "python")).catch(() => undefined);
  const folders = [
    bin === undefined ? undefined : dirname(bin),
    python === undefined ? undefined : dirname(dirname(python)),
  ];
  return [...new Set(folders)].filter((folder) => folder !== undefined && folder.split("/").length > 3) as string[];
}
