/**
 * A disk with a volatile write cache, whose power can be cut.
 *
 * The drive is a file in an ext4 of its own, and a loop device makes a disk of that file. What is written to the disk lies in
 * the page cache of the drive's ext4 until the disk is told to flush: that is an fsync of the file. The cut shuts the drive's
 * ext4 down (FS_IOC_SHUTDOWN of linux/ext4.h without a flush of its log, as xfstests do it): at that instant everything that
 * was not flushed is gone.
 *
 * 1. Nothing reaches the drive after a cut; the next `powerOn` finds what was flushed before, and what the kernel happened to
 *    write out by itself.
 * 2. After `powerOff`, also after one that follows a cut, nothing is mounted and no loop device is taken.
 */
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { plainEnvironment, type ProcessResult, runProcess } from "#actor/subprocess.ts";
import { InvariantError, UnavailableError, UsageError } from "#protocol/errors.ts";

/** What the drive's own ext4 needs beside the disk: its journal and its tables. */
const driveExtraBytes = 512 * 1024 ** 2;

/** The kernel lets go of a loop device a moment after its last user. */
const busyMsMax = 10_000;

/** `_IOR('X', 125, __u32)` with EXT4_GOING_FLAGS_NOLOGFLUSH. Node has no ioctl; Perl is on every Debian. */
const cutScript = `
open(my $drive, "<", $ARGV[0]) or die "$ARGV[0]: $!\\n";
my $withoutFlush = pack("L", 2);
$SIG{USR1} = sub { ioctl($drive, 0x8004587D, $withoutFlush) or die "FS_IOC_SHUTDOWN: $!\\n"; exit 0 };
$| = 1;
print "armed\\n";
sleep 1 while 1;`;

/** Waits for a signal to cut, so that a cut takes no longer than a system call. */
interface Switch {
  readonly pid: number;
  readonly ended: Promise<ProcessResult>;
  readonly abort: AbortController;
}

export class VolatileDisk implements AsyncDisposable {
  readonly #mountPoint: string;
  readonly #driveImage: string;
  readonly #drive: string;
  readonly #diskImage: string;
  readonly #mounted: string[] = [];
  #switch: Switch | undefined;

  private constructor(folder: string, mountPoint: string) {
    this.#mountPoint = mountPoint;
    this.#driveImage = join(folder, "drive.img");
    this.#drive = join(folder, "drive");
    this.#diskImage = join(this.#drive, "disk.img");
  }

  /**
   * An empty disk, without power.
   * @param folder is made; holds the image. @param mountPoint is made; where the disk is while its power is on.
   * @param bytes of the disk; only what is written takes room.
   * @throws UsageError `no-loop-device` where nothing can be mounted; UnavailableError `disk`
   */
  static async make(folder: string, mountPoint: string, bytes: number): Promise<VolatileDisk> {
    const disk = new VolatileDisk(folder, mountPoint);
    await mkdir(disk.#drive, { recursive: true });
    await mkdir(mountPoint, { recursive: true });
    await format(disk.#driveImage, bytes + driveExtraBytes);
    try {
      await disk.#mount(disk.#driveImage, disk.#drive);
      await format(disk.#diskImage, bytes);
    } finally {
      await disk.powerOff();
    }
    return disk;
  }

  /** Mounts, and replays the journals of a disk that has lost its power. @throws UsageError `no-loop-device`; UnavailableError `disk` */
  async powerOn(): Promise<void> {
    await this.#mount(this.#driveImage, this.#drive);
    await this.#mount(this.#diskImage, this.#mountPoint);
    this.#switch = await arm(this.#diskImage);
  }

  /**
   * The signal is out when this returns; resolves when the power is gone. Then only `powerOff` and `powerOn` make sense.
   * @throws UnavailableError `disk`
   */
  cut(): Promise<void> {
    const armed = this.#switch;
    if (armed === undefined) throw new InvariantError("no-power", "a disk without power cannot lose it");
    process.kill(armed.pid, "SIGUSR1");
    return armed.ended.then((result) => requireSuccess(["cut the power"], result));
  }

  async powerOff(): Promise<void> {
    this.#switch?.abort.abort();
    await this.#switch?.ended;
    this.#switch = undefined;
    for (let at = this.#mounted.at(-1); at !== undefined; at = this.#mounted.at(-1)) {
      await unmount(at);
      this.#mounted.pop();
    }
  }

  async #mount(image: string, at: string): Promise<void> {
    // `loop` takes a device that buffers, which is the volatile cache, and lets go of it at the umount.
    const argv = ["mount", "-t", "ext4", "-o", "loop,errors=remount-ro", image, at];
    const { end, tail } = await run(argv);
    if (end.kind !== "exited" || end.exitCode !== 0) {
      throw new UsageError(
        "no-loop-device",
        `this machine cannot mount a file over a loop device: ${tail[0] ?? end.kind}`,
      );
    }
    this.#mounted.push(at);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.powerOff();
  }
}

/** What this machine lacks for such a disk, as a sentence; undefined when it seems to have everything. */
export async function missingForDisks(): Promise<string | undefined> {
  if (process.platform !== "linux") return `Linux with ext4 and loop devices is needed, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "root is needed: disk images are mounted over loop devices";
  for (const argv of [
    ["mkfs.ext4", "-V"],
    ["perl", "-v"],
    ["mount", "-V"],
    ["umount", "-V"],
  ]) {
    if ((await run(argv)).end.kind === "not-started") return `there is no ${argv[0]} in PATH`;
  }
  const { end, tail } = await run(["losetup", "--find"]);
  if (end.kind === "exited" && end.exitCode === 0) return undefined;
  return `there is no free loop device: losetup --find says ${JSON.stringify(tail.join(" "))}`;
}

/** Few inodes and a small journal: made in a moment. */
async function format(image: string, bytes: number): Promise<void> {
  const file = await open(image, "w", 0o600);
  await file.truncate(bytes);
  await file.close();
  const argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-N", "4096", "-J", "size=32", "-E", "lazy_itable_init=0", image];
  requireSuccess(argv, await run(argv));
}

async function arm(file: string): Promise<Switch> {
  const abort = new AbortController();
  const armed = Promise.withResolvers<"armed">();
  let pid = 0;
  const argv = ["perl", "-e", cutScript, file];
  const ended = runProcess({
    argv,
    env: plainEnvironment(),
    signal: abort.signal,
    onStart: (started) => (pid = started),
    onLine: (line) => line === "armed" && armed.resolve("armed"),
  });
  const first = await Promise.race([armed.promise, ended]);
  if (first !== "armed") throw new UnavailableError("disk", `the switch cannot be armed: ${first.tail.join(" ")}`);
  return { pid, ended, abort };
}

async function unmount(at: string): Promise<void> {
  let last: ProcessResult | undefined;
  await poll(systemClock, { everyMs: 50, withinMs: busyMsMax }, async () => {
    last = await run(["umount", at]);
    return last.end.kind === "exited" && last.end.exitCode === 0 ? true : undefined;
  });
  if (last !== undefined) requireSuccess(["umount", at], last);
}

function run(argv: readonly string[]): Promise<ProcessResult> {
  return runProcess({ argv, env: plainEnvironment({ LC_ALL: "C" }), totalMs: 30_000 });
}

function requireSuccess(argv: readonly string[], { end, tail }: ProcessResult): void {
  if (end.kind === "exited" && end.exitCode === 0) return;
  throw new UnavailableError("disk", `${argv.join(" ")} failed (${end.kind}): ${tail.join(" ")}`);
}
