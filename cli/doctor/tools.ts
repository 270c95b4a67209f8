/** The programs that reading, building and flashing take on this machine. */
import { describeFailure } from "#protocol/failure.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { checkCompiler } from "#toolchain/compiler.ts";
import { EsphomeEnvironments } from "#toolchain/esphome-environment.ts";
import { endOfProcess, hasSucceeded } from "#toolchain/process-end.ts";
import { choosePython, findPythons, requiredPython } from "#toolchain/python.ts";
import { type Check, ok, problem, warning } from "#cli/doctor/check.ts";
import { defaultEsphomeVersion, type Session } from "#cli/session.ts";

/** Reading a configuration takes these, also where nothing is built. */
export async function checkEsphome(session: Session): Promise<readonly Check[]> {
  const { cacheFolder, clock, pythonHint, interrupted: signal } = session;
  const wanted = requiredPython(defaultEsphomeVersion);
  const environments = new EsphomeEnvironments({ cacheFolder, clock, pythonHint });
  const [ready, pythons] = await Promise.all([environments.ready(), findPythons({ hint: pythonHint, signal })]);
  const python = choosePython(pythons, wanted);
  const isReady = ready.includes(defaultEsphomeVersion);
  const tried = pythons.tried.length === 0 ? "none was found" : pythons.tried.join(", ");
  const pythonFix = `install Python ${wanted} with venv (Debian: apt install python3 python3-venv), or name one in FLASHYARD_PYTHON`;
  const environmentFix = "nothing: the first install makes it, which takes a minute and 300 MB";
  return [
    python === undefined
      ? (isReady ? warning : problem)("Python", `${wanted} is needed: ${tried}`, pythonFix)
      : ok("Python", `${python.version} (${python.path})`),
    isReady
      ? ok("ESPHome", `${defaultEsphomeVersion} is ready in ${cacheFolder}`)
      : warning("ESPHome", `${defaultEsphomeVersion} is not made yet in ${cacheFolder}`, environmentFix),
  ];
}

export async function checkBuildTools(signal: AbortSignal): Promise<readonly Check[]> {
  const [compiler, git, sandbox] = await Promise.all([
    checkCompiler({ signal }),
    answerOf(["git", "--version"], signal),
    answerOf(sandboxProbe, signal),
  ]);
  return [
    compiler.ok
      ? ok("C++ compiler", compiler.version)
      : warning(
          "C++ compiler",
          compiler.aborted ? "not looked for" : describeFailure(compiler.failure),
          "install g++ if this machine is to build for the host platform; ESPHome brings the other compilers along",
        ),
    checkProgram("git", git, "apt install git: configurations that name components in a repository cannot be built"),
    checkSandbox(sandbox),
  ];
}

/** As little of a build's room as shows that the kernel grants one. */
const sandboxProbe = ["bwrap", "--unshare-user", "--unshare-pid", "--disable-userns", "--ro-bind", "/", "/"].concat([
  "--proc",
  "/proc",
  "--",
  "true",
]);

export interface ProgramAnswer {
  readonly state: "works" | "missing" | "fails";
  /** What it said: its version, or how it ended. */
  readonly said: string;
}

/** These answer in milliseconds, from a cold disk in a second or two. */
const answerMsMax = 10_000;

export async function answerOf(argv: readonly string[], signal: AbortSignal): Promise<ProgramAnswer> {
  const result = await runProcess({ argv, env: plainEnvironment(), totalMs: answerMsMax, signal });
  if (hasSucceeded(result))
    return { state: "works", said: result.tail.find((line) => /\d\.\d/.test(line))?.trim() ?? result.tail[0] ?? "" };
  const isMissing = result.end.kind === "not-started" && result.end.reason === "not-found";
  return { state: isMissing ? "missing" : "fails", said: endOfProcess(result) };
}

/** Pure. A program that not everybody needs. */
export function checkProgram(name: string, { state, said }: ProgramAnswer, fix: string): Check {
  switch (state) {
    case "works":
      return ok(name, said);
    case "missing":
      return warning(name, "not on the PATH", fix);
    case "fails":
      return warning(name, said, fix);
  }
}

/** Pure. */
export function checkSandbox({ state, said }: ProgramAnswer): Check {
  const name = "bubblewrap";
  switch (state) {
    case "works":
      return ok(name, "works here (FLASHYARD_SANDBOX=bubblewrap)");
    case "missing":
      return warning(
        name,
        "not on the PATH: builds can read the agent's key",
        "apt install bubblewrap (docs/sandbox.md)",
      );
    case "fails":
      return warning(
        name,
        said,
        "allow user namespaces: kernel.unprivileged_userns_clone=1, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0",
      );
  }
}
