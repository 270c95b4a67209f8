/** Follows chains to their end and shows them on the way. What every command that waits for chains shares. */
import type { Chain } from "#protocol/chain.ts";
import { jobsOf } from "#protocol/chain.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { type ExitCode, exitCodes } from "#cli/exit-codes.ts";
import type { ChainFollower } from "#cli/follow.ts";
import { codeOfChain } from "#cli/outcome.ts";
import type { Refusal } from "#cli/refusal.ts";
import { jobFields, type Reporter } from "#cli/reporter.ts";
import type { Session } from "#cli/session.ts";

export interface Ended {
  readonly chains: readonly Chain[];
  /** Chains that the farm does not know any more. */
  readonly lost: readonly string[];
  /** Of all of them. */
  readonly codes: readonly ExitCode[];
}

/**
 * @param nextSteps what the user can do instead of waiting
 * @returns undefined when Ctrl-C came first
 * @throws UnavailableError `farm-away`
 */
export async function followToEnd(
  { terminal, interrupted }: Session,
  follower: ChainFollower,
  reporter: Reporter,
  nextSteps: string,
): Promise<Ended | undefined> {
  reporter.begin(() => follower.followed());
  const end = await follower.untilEnded(interrupted).finally(() => reporter.end());
  if (end === "away")
    throw new UnavailableError("farm-away", `the farm has not answered for ten minutes; ${nextSteps}`);
  if (end === "interrupted") {
    terminal.note(`still running; ${nextSteps}`);
    return undefined;
  }
  const lost = follower.lost();
  for (const id of lost) terminal.note(`the farm does not know ${id} any more: were its records removed?`);
  const chains = follower.followed().map(({ chain }) => chain);
  return { chains, lost, codes: [...chains.map(codeOfChain), ...lost.map(() => exitCodes.unknown)] };
}

/** The last line of `--json`. */
export function summarize(
  { terminal }: Session,
  { chains, lost }: Pick<Ended, "chains" | "lost">,
  refused: readonly Refusal[],
  exitCode: ExitCode,
): void {
  terminal.json({
    kind: "summary",
    exitCode,
    chains: chains.map((chain) => ({
      chain: chain.id,
      configuration: chain.configuration,
      exitCode: codeOfChain(chain),
      jobs: jobsOf(chain).map((job) => jobFields(chain, job)),
    })),
    lost,
    refused,
  });
}
