/** The agents of a farm on one machine: their names, and what they sign in with. */
import { hostname } from "node:os";
import { credentialsFile, machineName } from "#actor/agent-settings.ts";
import { type Clock, poll } from "#actor/clock.ts";
import { InvariantError, UnavailableError, UsageError } from "#protocol/errors.ts";
import { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { Connection } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { type Credentials, readCredentials, writeCredentials } from "#bus/identity/credentials.ts";
import { statedBy } from "#actor/person.ts";

export interface LocalAgent {
  readonly name: string;
  readonly lane: Lane;
  readonly slots: number;
}

/** Names of this machine's agents: plain for one of a lane, numbered for more. */
export function localAgents(counts: { compile: number; slots: number; uploadSlots: number }): readonly LocalAgent[] {
  const machine = machineName();
  const compile = Array.from({ length: counts.compile }, (_, index): LocalAgent => {
    const name = counts.compile === 1 ? `${machine}-compile` : `${machine}-compile-${index + 1}`;
    return { name, lane: "compile", slots: counts.slots };
  });
  return [...compile, { name: `${machine}-upload`, lane: "upload", slots: counts.uploadSlots }];
}

/** A coordinator answers 0.2 s after its server; a Raspberry Pi is slower. */
const enrolLimits = { everyMs: 50, withinMs: 60_000 };

/**
 * Has an agent let in by the coordinator, with the keys that it has, or with new ones, and writes what it signs in with.
 * @param connection an admin's
 * @throws UnavailableError when no coordinator answers; UsageError when it refuses
 */
export async function enrolLocally(
  connection: Connection,
  { name, lane }: LocalAgent,
  home: string,
  farm: Pick<Credentials, "servers" | "farm">,
  limits: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  const path = credentialsFile(home);
  const agent = AgentId.parse(name);
  const { seed, unseal } = (await readCredentials(path)) ?? {};
  const secrets = seed === undefined || unseal === undefined ? newAgentSecrets() : { seed, unseal };
  const identity = { agent, lane, host: hostname(), ...publicKeysOf(secrets) };
  const answer = await poll(limits.clock, { ...enrolLimits, signal: limits.signal }, () =>
    askAdmin(connection, { v: 1, kind: "enrol-agent", ...identity, by: statedBy() }).catch((error: unknown) => {
      if (error instanceof UnavailableError) return undefined;
      throw error;
    }),
  );
  if (answer === undefined)
    throw new UnavailableError("no-coordinator", "the coordinator does not answer; see its log");
  if (answer.kind === "refused") throw new UsageError(answer.code, answer.message);
  if (answer.kind !== "enrolled") throw new InvariantError("wrong-answer", `it answered ${answer.kind}`);
  const { token } = answer;
  await writeCredentials(path, { v: 1, role: { kind: "agent", agent, lane }, ...farm, token, ...secrets });
}
