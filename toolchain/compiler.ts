/** The C++ compiler of this machine, which a `host` build needs and ESPHome does not bring along. */
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { abortedStop, failed, type Attempt } from "#toolchain/attempt.ts";

const names = ["g++", "clang++", "c++"];

/** A compiler answers in milliseconds, from a cold disk in a second or two. */
const answerMsMax = 10_000;

/**
 * Finds the compiler that ESPHome's host build would take, by running it.
 * @returns its name and first line of `--version`, or the failure `toolchain-missing`.
 */
export async function checkCompiler(
  options: { readonly environment?: Readonly<Record<string, string>>; readonly signal?: AbortSignal } = {},
): Promise<Attempt<{ readonly name: string; readonly version: string }>> {
  for (const name of names) {
    const result = await runProcess({
      argv: [name, "--version"],
      env: options.environment ?? plainEnvironment(),
      totalMs: answerMsMax,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    if (result.end.kind === "aborted") return abortedStop;
    if (result.end.kind === "exited" && result.end.exitCode === 0) {
      return { ok: true, name, version: result.tail[0] ?? name };
    }
  }
  return failed({
    kind: "toolchain-missing",
    missing: "g++ (or clang++)",
    detail:
      "a host build needs a C++ compiler on PATH; install one (Debian: apt install g++, macOS: xcode-select --install)",
  });
}
