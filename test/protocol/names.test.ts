/** Names on the wire: each is one token where a token is due, and no text of a user ever becomes one unescaped. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AgentId, chainIdFrom, Configuration } from "#protocol/ids.ts";
import * as names from "#protocol/names.ts";
import { agentNamed, chainNumber, configurationNamed, digestNumber } from "#test/support/farm-builders.ts";

const agent = agentNamed("pi-4");
const chain = chainNumber(1);

/** What a subject may be made of when nothing in it came from a stranger. */
const plainSubject = /^[$A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const anyAgent = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,62}$/).map((text) => AgentId.parse(text));
const anyChain = fc
  .tuple(fc.nat(), fc.uint8Array({ minLength: 6, maxLength: 6 }))
  .map(([at, bytes]) => chainIdFrom(at, bytes));
const anyConfiguration = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 60 })
  .filter((text) => Configuration.safeParse(text).success)
  .map((text) => Configuration.parse(text));

test("every name is what it is documented to be", () => {
  expect({
    streams: names.streams,
    buckets: names.buckets,
    objectStores: names.objectStores,
    bucketStream: names.bucketStream(names.buckets.chains),
    keySubject: names.keySubject(names.buckets.chains, chain),
    laneSubject: names.laneSubject("compile", agent),
    laneSubjects: names.laneSubjects,
    laneConsumer: names.laneConsumer("upload", agent),
    dispatchId: names.dispatchId(chain, "upload", 2),
    askSubject: names.askSubject(agent),
    stopSubject: names.stopSubject(agent),
    sightingSubject: names.sightingSubject(agent),
    awaitedSubject: names.awaitedSubject,
    serialSubject: names.serialSubject(agent),
    progressSubject: names.progressSubject(agent, chain, "compile"),
    logSubject: names.logSubject(agent, chain, "compile"),
    adminSubject: names.adminSubject,
    adminSubjectOf: names.adminSubjectOf("ann"),
    auditSubject: names.auditSubject,
    leaseKey: names.leaseKey,
    presenceKey: names.presenceKey(agent),
    objectName: names.objectName(digestNumber(1)),
  }).toMatchSnapshot();
});

test("subjects of agents and chains are plain tokens, whatever they are called", () => {
  fc.assert(
    fc.property(anyAgent, anyChain, (agent, chain) => {
      const subjects = [
        names.laneSubject("compile", agent),
        names.askSubject(agent),
        names.stopSubject(agent),
        names.sightingSubject(agent),
        names.serialSubject(agent),
        names.progressSubject(agent, chain, "upload"),
        names.logSubject(agent, chain, "upload"),
        names.keySubject(names.buckets.chains, chain),
        names.keySubject(names.buckets.presence, names.presenceKey(agent)),
      ];
      for (const subject of subjects) expect(subject).toMatch(plainSubject);
      expect(names.laneConsumer("compile", agent)).toMatch(/^[A-Za-z0-9_-]+$/);
    }),
  );
});

describe("a configuration as a key", () => {
  test("is one plain token, whatever the user has called it", () => {
    fc.assert(
      fc.property(anyConfiguration, (configuration) => {
        expect(names.configurationKey(configuration)).toMatch(/^[A-Za-z0-9_-]+$/);
      }),
    );
  });

  test("tells any two configurations apart", () => {
    fc.assert(
      fc.property(anyConfiguration, anyConfiguration, (a, b) => {
        expect(names.configurationKey(a) === names.configurationKey(b)).toBe(a === b);
      }),
    );
  });

  test("is the unpadded base64url of its text", () => {
    for (const text of ["kitchen", "a.b", "Küche 2", "温室", "xx", "xxx", "*"]) {
      const key = names.configurationKey(configurationNamed(text));
      expect(key).toBe(Buffer.from(text).toString("base64url"));
    }
  });
});

describe("the agent of an ask or a sighting", () => {
  test("is read back from its subject", () => {
    fc.assert(
      fc.property(anyAgent, (agent) => {
        expect(names.agentOfAsk(names.askSubject(agent))).toBe(agent);
        expect(names.agentOfSighting(names.sightingSubject(agent))).toBe(agent);
      }),
    );
  });

  test.each(["", "fy.ask", "fy.ask.", "fy.ask.*", "fy.ask.UPPER", "fy.ask.-a"])("is nobody for %j", (subject) =>
    expect(names.agentOfAsk(subject)).toBeUndefined(),
  );
});
