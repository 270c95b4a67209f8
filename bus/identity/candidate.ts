/**
 * A machine that is about to join a farm, and the keys that it has made for that.
 *
 * 1. The keys are on disk before the farm hears of them: a code that was used is of no use to other keys.
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { messageOf, UsageError } from "#protocol/errors.ts";
import type { JoinLine } from "#protocol/join-line.ts";
import { AgentIdentity, CodeHash } from "#protocol/pairing.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { Credentials } from "#bus/identity/credentials.ts";
import { hashOfCode } from "#bus/identity/join-code.ts";
import { replaceSecretFile } from "#bus/identity/secret-file.ts";

const Candidate = z.object({
  v: z.literal(1),
  /** Of the code that the keys were made for. */
  hash: CodeHash,
  identity: AgentIdentity,
  ...Credentials.pick({ seed: true, unseal: true }).required().shape,
});
export type Candidate = z.infer<typeof Candidate>;

export type Wish = Pick<AgentIdentity, "agent" | "lane" | "host">;

const fileName = "joining.json";

/** The keys that were made for this line before, where joining was broken off, or new ones. @throws UsageError `bad-home` */
export async function candidateIn(home: string, { code }: JoinLine, wish: Wish): Promise<Candidate> {
  const path = join(home, fileName);
  const hash = hashOfCode(code);
  const before = await readFile(path, "utf8").then(parsed, () => undefined);
  if (before?.hash === hash && before.identity.agent === wish.agent && before.identity.lane === wish.lane)
    return before;
  const candidate = newCandidate(hash, wish);
  try {
    await mkdir(home, { recursive: true, mode: 0o700 });
    await replaceSecretFile(path, `${JSON.stringify(candidate)}\n`);
  } catch (error) {
    throw new UsageError("bad-home", `the folder ${home} cannot be used: ${messageOf(error)}`);
  }
  return candidate;
}

/** Called when the credentials are on the disk, or will never be. */
export async function forgetCandidate(home: string): Promise<void> {
  await rm(join(home, fileName), { force: true });
}

function newCandidate(hash: string, wish: Wish): Candidate {
  const secrets = newAgentSecrets();
  return { v: 1, hash, identity: { ...wish, ...publicKeysOf(secrets) }, ...secrets };
}

function parsed(text: string): Candidate | undefined {
  try {
    const read = Candidate.parse(JSON.parse(text));
    return publicKeysOf(read).user === read.identity.user ? read : undefined;
  } catch {
    return undefined;
  }
}
