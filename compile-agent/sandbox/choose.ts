/** Which sandbox an agent has: what its owner chose, or the highest level that works, found out by running something in it. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { plainEnvironment, runProcess, type ProcessResult } from "#actor/subprocess.ts";
import { UsageError } from "#protocol/errors.ts";
import { bubblewrapSandbox, plainSandbox, type Sandbox, type SandboxSettings } from "#compile-agent/sandbox/sandbox.ts";
import { hasSucceeded, endOfProcess } from "#toolchain/process-end.ts";

export interface SandboxPlace {
  /** Where a room can be made to try it. */
  readonly home: string;
  readonly sharedHome: string;
}

/** Starting `true` takes milliseconds. */
const probeMsMax = 10_000;

/**
 * `auto` takes what works, tried once. @throws UsageError `sandbox-unavailable` when a level that was asked for does not work, with
 * what is missing.
 */
export async function chooseSandbox(
  wanted: "auto" | Sandbox["level"],
  settings: SandboxSettings,
  place: SandboxPlace,
): Promise<Sandbox> {
  if (wanted === "none") return plainSandbox;
  const sandbox = bubblewrapSandbox(settings, place.sharedHome);
  const fault = await faultOf(sandbox, place);
  if (fault === undefined) return sandbox;
  if (wanted === "auto") return plainSandbox;
  throw new UsageError("sandbox-unavailable", `FLASHYARD_SANDBOX is bubblewrap, which does not work here: ${fault}`);
}

async function faultOf(sandbox: Sandbox, { home }: SandboxPlace): Promise<string | undefined> {
  await mkdir(home, { recursive: true });
  const folder = await mkdtemp(join(home, "sandbox-probe-"));
  try {
    const source = join(folder, "source");
    await mkdir(join(source, ".flashyard"), { recursive: true });
    const confined = await sandbox.confine({ folder, source, keepFor: () => {} });
    const result = await runProcess({
      ...confined({ argv: ["true"], cwd: source, env: plainEnvironment() }),
      totalMs: probeMsMax,
    });
    return hasSucceeded(result) ? undefined : adviceFor(result);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function adviceFor(result: ProcessResult): string {
  if (result.end.kind === "not-started" && result.end.reason === "not-found") {
    return "there is no bwrap on the PATH (apt install bubblewrap)";
  }
  return (
    `${endOfProcess(result)}. It needs bubblewrap 0.8 or newer and user namespaces: see kernel.unprivileged_userns_clone, ` +
    "user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns (sysctl), and RestrictNamespaces= of the unit"
  );
}
