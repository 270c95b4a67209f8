/** Who may be an agent, by the rules of the registry alone. */
import { createUser } from "@nats-io/nkeys";
import { expect, test } from "vitest";
import type { KeyHolder, Shelf } from "#actor/coordinator-ports.ts";
import { tokenMs } from "#protocol/limits.ts";
import type { AgentIdentity, PairedAgent } from "#protocol/pairing.ts";
import { Registry } from "#coordinator/registry.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { agentNamed } from "#test/support/farm-builders.ts";
import { SteppedClock } from "#test/support/stepped-clock.ts";

const holder: KeyHolder = {
  pin: "0".repeat(64),
  introduce: () => Promise.reject(new UnavailableError("no", "nobody asks")),
  hasSigned: () => true,
  sign: (agent, lane, user, expiresAt) => Promise.resolve(`${lane} ${agent} ${user} ${expiresAt}`),
  seal: "A".repeat(43),
  unseal: () => undefined,
  vouch: () => "vouch",
  contentSecret: () => new Uint8Array(32),
  revoke: () => Promise.resolve(),
};

function shelf(): Shelf<PairedAgent> & { readonly stored: Map<string, PairedAgent>; isAway: boolean } {
  const stored = new Map<string, PairedAgent>();
  return {
    stored,
    isAway: false,
    putAll(values) {
      if (this.isAway) return Promise.reject(new UnavailableError("timeout", "no answer in time"));
      for (const [key, value] of values) stored.set(key, value);
      return Promise.resolve();
    },
    get: (key) => Promise.resolve(stored.get(key)),
    all: () => Promise.resolve([...stored.values()]),
    newest: () => Promise.resolve([...stored.values()]),
    removeAll: () => Promise.resolve(),
  };
}

const userKey = () => createUser().getPublicKey();
const builder = (more: Partial<AgentIdentity> = {}): AgentIdentity => ({
  agent: agentNamed("builder"),
  lane: "compile",
  user: userKey(),
  seal: "s".repeat(43),
  host: "attic",
  ...more,
});

test("an enrolled agent is paired on its lane and no other, and so it is for the next coordinator", async () => {
  const paired = shelf();
  const clock = new SteppedClock();
  const registry = new Registry({ paired, identity: holder }, clock);
  await registry.load();
  const asked = builder();
  expect(registry.isPaired(asked.agent, "compile")).toBe(false);
  const expiresAt = clock.now() + tokenMs;
  const token = `compile builder ${asked.user} ${expiresAt}`;
  expect(await registry.enrol(asked, "admin")).toEqual({ kind: "enrolled", token, expiresAt });
  const next = new Registry({ paired, identity: holder }, clock);
  await next.load();
  for (const one of [registry, next]) {
    expect(one.isPaired(asked.agent, "compile")).toBe(true);
    expect(one.isPaired(asked.agent, "upload")).toBe(false);
    expect(one.laneOf(asked.agent)).toBe("compile");
    expect(one.sealKeyOf(asked.agent)).toBe(asked.seal);
    expect(one.laneOf(agentNamed("nobody"))).toBeUndefined();
  }
});

test("an agent that is enrolled anew has its new keys, and its record names the old ones", async () => {
  const paired = shelf();
  const registry = new Registry({ paired, identity: holder }, new SteppedClock());
  const [first, second] = [builder(), builder({ seal: "t".repeat(43) })];
  await registry.enrol(first, "admin");
  await registry.enrol(first, "admin");
  expect(paired.stored.get("builder")?.former).toBeUndefined();
  await registry.enrol(second, "admin");
  expect(registry.sealKeyOf(second.agent)).toBe(second.seal);
  expect(paired.stored.get("builder")).toMatchObject({ user: second.user, former: [{ user: first.user }] });
});

test("a key that signed a build is the agent's own, one that it had, a revoked one's, or nobody's", async () => {
  const paired = shelf();
  const registry = new Registry({ paired, identity: holder }, new SteppedClock());
  const [first, second] = [builder(), builder()];
  await registry.enrol(first, "admin");
  await registry.enrol(second, "admin");
  const flasher = builder({ agent: agentNamed("flasher"), lane: "upload" });
  await registry.enrol(flasher, "admin");
  const { agent } = first;
  expect(registry.builderStanding(agent, second.user)).toBe("paired");
  expect(registry.builderStanding(agent, first.user)).toBe("former");
  expect(registry.builderStanding(agent, userKey())).toBe("unknown");
  expect(registry.builderStanding(agentNamed("nobody"), second.user)).toBe("unknown");
  expect(registry.builderStanding(flasher.agent, flasher.user)).toBe("unknown");
  paired.stored.set("builder", { ...paired.stored.get("builder")!, state: "revoked", revokedAt: 1 });
  await registry.load();
  for (const { user } of [first, second]) expect(registry.builderStanding(agent, user)).toBe("revoked");
});

test("the name of an agent of another lane, or of a revoked one, is refused", async () => {
  const paired = shelf();
  const registry = new Registry({ paired, identity: holder }, new SteppedClock());
  await registry.enrol(builder(), "admin");
  const refused = await registry.enrol(builder({ lane: "upload" }), "admin");
  expect(refused).toMatchObject({ kind: "refused", code: "other-lane", message: expect.stringContaining("attic") });
  paired.stored.set("builder", { ...paired.stored.get("builder")!, state: "revoked", revokedAt: 1 });
  await registry.load();
  expect(registry.isPaired(agentNamed("builder"), "compile")).toBe(false);
  expect(registry.sealKeyOf(agentNamed("builder"))).toBeUndefined();
  expect(await registry.enrol(builder(), "admin")).toMatchObject({ kind: "refused", code: "revoked" });
});

test("what could not be stored does not count, and no token is given out for it", async () => {
  const paired = shelf();
  const registry = new Registry({ paired, identity: holder }, new SteppedClock());
  paired.isAway = true;
  await expect(registry.enrol(builder(), "admin")).rejects.toThrow(UnavailableError);
  expect(registry.isPaired(agentNamed("builder"), "compile")).toBe(false);
  paired.isAway = false;
  expect(await registry.enrol(builder(), "admin")).toMatchObject({ kind: "enrolled" });
});

test("an open farm lets everybody in and signs nobody in", async () => {
  const registry = new Registry({ paired: shelf() }, new SteppedClock());
  expect(registry.isPaired(agentNamed("anybody"), "upload")).toBe(true);
  expect(await registry.enrol(builder(), "admin")).toMatchObject({
    kind: "refused",
    code: "open-farm",
    message: expect.stringContaining("FLASHYARD_IDENTITY"),
  });
});
