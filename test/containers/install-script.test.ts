/** What makes a machine a part of the farm: the install script in a plain Debian, and the units that it installs. */
import { globSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { GenericContainer } from "testcontainers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { containerEngine } from "#test/support/container-engine.ts";
import { debianImage } from "#test/support/farm-images.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
const units = globSync("deploy/systemd/*.service", { cwd: root });

const owned = new AsyncDisposableStack();
let folder: TemporaryFolder;
let image: string;

beforeAll(async () => {
  folder = owned.use(await temporaryFolder());
  owned.use(await containerEngine());
  image = await debianImage();
});
afterAll(() => owned.disposeAsync());

/** In a machine of its own. */
async function install(...args: readonly string[]): Promise<{ readonly code: number; readonly said: string }> {
  await using machine = await new GenericContainer(image)
    .withCommand(["sleep", "infinity"])
    .withBindMounts([{ source: root, target: "/srv/flashyard", mode: "ro" }])
    .start();
  const { exitCode, output } = await machine.exec(["/srv/flashyard/deploy/install.sh", ...args]);
  return { code: exitCode, said: output };
}

test("a dry run says all that would be done for each role, and what a person has to bring", async () => {
  const { code, said } = await install("--dry-run", "nats", "coordinator", "compile", "upload");
  expect([code, said]).toEqual([0, expect.stringContaining("npm ci --prefix /opt/flashyard.new")]);
  for (const unit of units) expect(said).toContain(`/etc/systemd/system/${basename(unit)}`);
  expect(said.match(/== next: /g)).toHaveLength(4);
});

test("a role that there is not, and none at all, are refused with the roles that there are", async () => {
  for (const args of [["kitchen"], ["--dry-run"]]) {
    expect(await install(...args)).toEqual({ code: 1, said: expect.stringContaining("Roles (several") as string });
  }
});

test("systemd takes the units as they are", async () => {
  const paths: string[] = [];
  await mkdir(join(folder.path, "units"));
  for (const unit of units) {
    const path = join(folder.path, "units", basename(unit));
    const text = await readFile(join(root, unit), "utf8");
    // What they start is not where they look for it, on this machine.
    await writeFile(path, text.replaceAll(/^(Exec\w+=)\S+/gm, "$1/bin/true").replaceAll(/^(User|Group)=.*\n/gm, ""));
    paths.push(path);
  }
  const argv = ["systemd-analyze", "verify", "--man=no", ...paths];
  const { end, tail } = await runProcess({ argv, env: plainEnvironment(), totalMs: 60_000 });
  expect([end, tail]).toEqual([{ kind: "exited", exitCode: 0 }, []]);
});

/** Of ten, by systemd 252: 9.6 is a unit without any of it. */
const exposureMax: Readonly<Record<string, number>> = {
  "flashyard-nats.service": 2,
  "flashyard-coordinator.service": 2,
  "flashyard-upload-agent.service": 2.5,
  "flashyard-compile-agent.service": 6,
};

test.each(units)("%s is confined", async (unit) => {
  const threshold = String((exposureMax[basename(unit)] ?? 0) * 10);
  const argv = ["systemd-analyze", "security", "--offline=yes", `--threshold=${threshold}`, join(root, unit)];
  const { end, tail } = await runProcess({ argv, env: plainEnvironment(), totalMs: 60_000 });
  expect(end, tail.join("\n")).toEqual({ kind: "exited", exitCode: 0 });
});
