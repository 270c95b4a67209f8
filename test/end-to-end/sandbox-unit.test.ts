/** What the compile agent's unit does to its processes leaves bubblewrap working. Started as root, because systemd does it as root. */
import { readFileSync } from "node:fs";
import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { bubblewrapArguments } from "#compile-agent/sandbox/bubblewrap.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const nobody = 65_534;
const unit = readFileSync(join(import.meta.dirname, "../../deploy/systemd/flashyard-compile-agent.service"), "utf8");

/** What systemd does for a setting (systemd.exec(5)), as far as it concerns mounts. */
const mounts: Readonly<Record<string, string>> = {
  "ProtectSystem=strict": 'mount --bind "$ROOM" "$ROOM" && mount -o remount,ro,bind /',
  "ProtectHome=yes": "mount -t tmpfs -o mode=000,ro tmpfs /root",
  "ProtectKernelTunables=yes": "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys",
  "ProtectKernelLogs=yes": "mount --bind /dev/null /proc/kmsg",
  "ProtectControlGroups=yes": "mount -t tmpfs -o ro tmpfs /sys/fs/cgroup",
};

async function buildUnder(settings: readonly string[]) {
  await using room = await temporaryFolder();
  const [source, home] = [join(room.path, "source"), join(room.path, "home")];
  for (const folder of [source, join(source, ".flashyard"), home]) await mkdir(folder);
  for (const folder of [room.path, source, home]) await chown(folder, nobody, nobody);
  const env = plainEnvironment({ ROOM: room.path });
  const limits = { processesMax: 60, fileBytesMax: 1_000_000, hasNetwork: true };
  const build = [...bubblewrapArguments({ source, home, readable: [], cwd: source, env, ...limits }), "touch", "built"];
  const asNobody = [
    "setpriv",
    "--reuid",
    String(nobody),
    "--regid",
    String(nobody),
    "--clear-groups",
    "--no-new-privs",
  ];
  const script = ["set -e", "mount --make-rprivate /", ...settings.map((one) => mounts[one]!), 'exec "$@"'].join("\n");
  const argv = ["unshare", "-m", "sh", "-c", script, "sh", ...asNobody, "--bounding-set=-all", ...build];
  return await runProcess({ argv, env, totalMs: 10_000 });
}

test("a build starts as a user without capabilities, under all that the unit mounts", async () => {
  const set = Object.keys(mounts).filter((setting) => unit.split("\n").includes(setting));
  expect(set).toContain("ProtectSystem=strict");
  const { end, tail } = await buildUnder(set);
  expect(end, tail.join("\n")).toEqual({ kind: "exited", exitCode: 0 });
  expect(unit).not.toMatch(/^(RestrictNamespaces|ProtectHostname)=/m);
});

test.each(["ProtectKernelTunables=yes", "ProtectKernelLogs=yes"])("it would not under %s", async (setting) => {
  const { tail } = await buildUnder([setting]);
  expect(tail.join("\n")).toContain("Can't mount proc");
});
