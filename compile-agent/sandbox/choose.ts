/** Which sandbox an agent has: what its owner chose, or the highest level that works, found out by running something in it. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { plainEnvironment, runProcess, type ProcessResult } from "#actor/subprocess.ts";
import type { SandboxLevel } from "#protocol/sandbox.ts";
import { UsageError } from "#protocol/errors.ts";
import { containerSandbox } from "#compile-agent/sandbox/container.ts";
import {
  bubblewrapSandbox,
  plainSandbox,
  type Sandbox,
  type SandboxPlace,
  type SandboxSettings,
} from "#compile-agent/sandbox/sandbox.ts";
import { userSandbox } from "#compile-agent/sandbox/user.ts";
import { hasSucceeded, endOfProcess } from "#toolchain/process-end.ts";

/** Starting `true` takes milliseconds. */
const probeMsMax = 10_000;

/** What keeps builds in, the strongest first. */
const levels = ["container", "bubblewrap", "user"] as const;

/**
 * `auto` takes the strongest that works, each tried once. @throws UsageError `sandbox-unavailable` when a level that was asked for
 * does not work, with what is missing.
 */
export async function chooseSandbox(
  wanted: "auto" | SandboxLevel,
  settings: SandboxSettings,
  place: SandboxPlace,
): Promise<Sandbox> {
  if (wanted === "none") return plainSandbox;
  await mkdir(place.buildFolder, { recursive: true });
  for (const level of wanted === "auto" ? levels : [wanted]) {
    const sandbox = await workingSandbox(level, settings, place);
    if (typeof sandbox !== "string") return sandbox;
    if (wanted === level) {
      throw new UsageError(
        "sandbox-unavailable",
        `FLASHYARD_SANDBOX is ${level}, which does not work here: ${sandbox}`,
      );
    }
  }
  if (settings.hasNetwork) return plainSandbox;
  const message = "FLASHYARD_SANDBOX_NETWORK is off, and no sandbox that can take the network from a build works here";
  throw new UsageError("sandbox-unavailable", `${message} (apt install bubblewrap)`);
}

/** @returns the sandbox, or why there is none. */
async function workingSandbox(
  level: (typeof levels)[number],
  settings: SandboxSettings,
  place: SandboxPlace,
): Promise<Sandbox | string> {
  switch (level) {
    case "container": {
      const sandbox = containerSandbox(settings, place);
      if (typeof sandbox === "string") return sandbox;
      const failed = await tryOut(sandbox, place);
      return failed === undefined ? sandbox : adviceOnContainer(failed, settings);
    }
    case "bubblewrap": {
      const sandbox = bubblewrapSandbox(settings, place.sharedHome);
      const failed = await tryOut(sandbox, place);
      return failed === undefined ? sandbox : adviceOnBubblewrap(failed);
    }
    case "user": {
      const sandbox = await userSandbox(settings, place);
      if (typeof sandbox === "string") return sandbox;
      const failed = await tryOut(sandbox, place);
      return failed === undefined
        ? sandbox
        : `${endOfProcess(failed)}. It needs setpriv and prlimit (apt install util-linux)`;
    }
  }
}

/** @returns how it ended, unless it worked. */
async function tryOut(sandbox: Sandbox, { buildFolder }: SandboxPlace): Promise<ProcessResult | undefined> {
  const folder = await mkdtemp(join(buildFolder, "sandbox-probe-"));
  try {
    const source = join(folder, "source");
    await mkdir(join(source, ".flashyard"), { recursive: true });
    const confined = await sandbox.confine({ folder, source, keepFor: () => {} });
    const result = await runProcess({
      ...confined({ argv: ["true"], cwd: source, env: plainEnvironment() }),
      totalMs: probeMsMax,
    });
    return hasSucceeded(result) ? undefined : result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function adviceOnContainer(result: ProcessResult, { engine, image }: SandboxSettings): string {
  if (result.end.kind === "not-started" && result.end.reason === "not-found") {
    return `there is no ${engine} on the PATH (FLASHYARD_SANDBOX_ENGINE)`;
  }
  return (
    `${endOfProcess(result)}. ${engine} must run, let this user in, and have the image (\`${engine} pull ${image}\`), ` +
    "which must have the program `true`"
  );
}

function adviceOnBubblewrap(result: ProcessResult): string {
  if (result.end.kind === "not-started" && result.end.reason === "not-found") {
    return "there is no bwrap on the PATH (apt install bubblewrap)";
  }
  return (
    `${endOfProcess(result)}. It needs bubblewrap 0.8 or newer and user namespaces: see kernel.unprivileged_userns_clone, ` +
    "user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns (sysctl), and RestrictNamespaces= of the unit"
  );
}
