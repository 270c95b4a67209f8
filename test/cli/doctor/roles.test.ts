/** Which roles `flashyard doctor` finds on a machine. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "#actor/clock.ts";
import { newAgentSecrets } from "#bus/identity/agent-keys.ts";
import { writeCredentials } from "#bus/identity/credentials.ts";
import { identityFolder } from "#bus/identity/identity-folder.ts";
import { findRoles } from "#cli/doctor/roles.ts";
import type { Session } from "#cli/session.ts";
import { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const servers = "nats://127.0.0.1:4222";

/** What the search reads of a session. */
function sessionOn(home: string, more: Record<string, string> = {}): Session {
  const environment = { FLASHYARD_HOME: home, ...more };
  return { environment, credentials: join(home, "farm/identity/admin.json"), clock: systemClock } as unknown as Session;
}

test("an empty machine is an admin's, one with a farm of its own has every role, and a role can be named", async () => {
  await using home = await temporaryFolder();
  expect(await findRoles(sessionOn(home.path))).toEqual({ roles: new Set(["admin"]), homes: [], identities: [] });
  const identity = join(home.path, "farm/identity");
  const { farm } = await identityFolder(identity, servers);
  for (const lane of ["compile", "upload"] satisfies Lane[]) {
    const role = { kind: "agent" as const, agent: AgentId.parse(`a-${lane}`), lane };
    const { seed, unseal } = newAgentSecrets();
    const path = join(home.path, "farm/agents", `a-${lane}`, "credentials.json");
    await writeCredentials(path, { v: 1, role, servers, token: "t", seed, unseal, farm });
  }
  const all = await findRoles(sessionOn(home.path));
  expect(all.roles).toEqual(new Set(["admin", "compile", "upload", "coordinator"]));
  expect(all.homes.toSorted()).toEqual(["a-compile", "a-upload"].map((name) => join(home.path, "farm/agents", name)));
  expect(all.identities).toEqual([identity]);
  expect((await findRoles(sessionOn(home.path), "upload")).roles).toEqual(new Set(["upload"]));
});

test("an agent's machine without credentials is told so only when it is said to be one", async () => {
  await using home = await temporaryFolder();
  await mkdir(join(home.path, "lock"));
  expect((await findRoles(sessionOn(home.path))).homes).toEqual([]);
  expect((await findRoles(sessionOn(home.path), "compile")).homes).toEqual([home.path]);
  expect((await findRoles(sessionOn(home.path), "admin")).homes).toEqual([]);
});

test("an agent that has joined a farm elsewhere is found in its default home", async () => {
  await using home = await temporaryFolder();
  const { farm } = await identityFolder(join(home.path, "elsewhere"), servers);
  const role = { kind: "agent" as const, agent: AgentId.parse("attic"), lane: "upload" as const };
  const secrets = newAgentSecrets();
  await writeCredentials(join(home.path, "attic", "credentials.json"), {
    v: 1,
    role,
    servers,
    token: "t",
    ...secrets,
    farm,
  });
  const { roles, homes } = await findRoles(sessionOn(home.path));
  expect(roles).toEqual(new Set(["admin", "upload"]));
  expect(homes).toEqual([join(home.path, "attic")]);
});
