/** A real `esphome compile` inside each sandbox, and what it costs. Started as root. */
import { chmod } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { findPythons } from "#toolchain/python.ts";
import { buildTwice } from "#test/support/sandboxed-esphome.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const machineCache = process.env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard");
const program = join(import.meta.dirname, "../support/sandboxed-esphome.ts");

test.each(["none", "bubblewrap"] as const)("ESPHome builds at level %s, cold and warm", async (level) => {
  await using home = await temporaryFolder();
  await buildTwice(level, home.path, { cacheFolder: machineCache });
});

/** Of a home that only its owner passes, a copy in which there is nothing but the Python, and which everybody passes. */
const namespace = `set -e
mkdir "$FOLDER/home" && mount --rbind "$PYTHON_HOME" "$FOLDER/home"
mount -t tmpfs -o mode=755 tmpfs "$HOME" && mkdir -p "$PYTHON_HOME" && mount --rbind "$FOLDER/home" "$PYTHON_HOME"
exec "$NODE" "$PROGRAM" "$FOLDER" "$PYTHON"`;

test("ESPHome builds as a user of its own, in an environment that the agent has made", async () => {
  await using home = await temporaryFolder();
  await chmod(home.path, 0o711);
  const { pythons } = await findPythons({ hint: process.env["FLASHYARD_PYTHON"] });
  const python = pythons[0]!.path;
  const isAtHome = python.startsWith(`${homedir()}/`);
  const variables = {
    HOME: homedir(),
    FOLDER: home.path,
    PYTHON: python,
    // The folder below the home in which the Python is, e.g. ~/.pyenv.
    PYTHON_HOME: join(homedir(), python.slice(homedir().length + 1).split("/")[0]!),
    NODE: process.execPath,
    PROGRAM: program,
  };
  const argv = isAtHome ? ["unshare", "-m", "sh", "-c", namespace] : [process.execPath, program, home.path, python];
  const { end, tail } = await runProcess({ argv, env: plainEnvironment(variables), totalMs: 280_000 });
  expect(end, tail.join("\n")).toEqual({ kind: "exited", exitCode: 0 });
  process.stdout.write(`${tail.join("\n")}\n`);
});
