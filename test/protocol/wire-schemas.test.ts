/**
 * Everything that goes over the wire or into a bucket, as JSON schema, kept as a snapshot. A change here is a change for
 * messages under way and for records on disk: an older one must still be read. Accept it with `npx vitest run -u` after that
 * has been thought of.
 */
import { expect, test } from "vitest";
import { z } from "zod";
import * as admin from "#protocol/admin.ts";
import * as agent from "#protocol/agent.ts";
import * as artifact from "#protocol/artifact.ts";
import * as audit from "#protocol/audit.ts";
import * as chain from "#protocol/chain.ts";
import * as failure from "#protocol/failure.ts";
import * as ids from "#protocol/ids.ts";
import * as job from "#protocol/job.ts";
import * as lease from "#protocol/lease.ts";
import * as messages from "#protocol/messages.ts";
import * as objects from "#protocol/objects.ts";
import * as pairing from "#protocol/pairing.ts";
import * as route from "#protocol/route.ts";
import * as sandbox from "#protocol/sandbox.ts";
import * as serial from "#protocol/serial.ts";
import * as sighting from "#protocol/sighting.ts";

const rooms = {
  admin,
  agent,
  artifact,
  audit,
  chain,
  failure,
  ids,
  job,
  lease,
  messages,
  objects,
  pairing,
  route,
  sandbox,
  serial,
  sighting,
};

/** Every exported schema, so that a new message cannot be forgotten here. */
const schemas = Object.entries(rooms).flatMap(([room, exported]) =>
  Object.entries(exported)
    .filter((entry): entry is [string, z.ZodType] => entry[1] instanceof z.ZodType)
    .map(([name, schema]) => [`${room}.${name}`, schema] as const),
);

/** Each schema with references to the others by name, so that a change shows in one place. */
const registry = z.registry<{ id: string }>();
for (const [name, schema] of schemas) if (!registry.has(schema)) registry.add(schema, { id: name });
const json = z.toJSONSchema(registry, { io: "input", uri: (id) => id }).schemas;

test("there are as many schemas as the protocol has words", () => {
  expect(schemas.length).toBeGreaterThan(30);
});

test.each(Object.keys(json))("%s is as it was", (name) => {
  const { $id: _id, $schema: _schema, ...schema } = json[name]!;
  expect(schema).toMatchSnapshot();
});

test("every message carries its version", () => {
  const versioned = [
    messages.CompileDispatch,
    messages.UploadDispatch,
    messages.CleanDispatch,
    messages.StopOrder,
    messages.AskAnswer,
    messages.Progress,
    sighting.Sightings,
    sighting.Awaited,
    serial.SerialLogWish,
  ];
  for (const schema of [
    ...versioned,
    agent.Announcement,
    admin.DeviceRecord,
    pairing.PairedAgent,
    artifact.ArtifactManifest,
    audit.AuditEntry,
  ]) {
    expect(schema.shape.v.safeParse(1).success).toBe(true);
    expect(schema.shape.v.safeParse(2).success).toBe(false);
  }
  // Older ones are read by `chain-versions.ts`.
  expect([1, 2, 3].map((v) => chain.Chain.shape.v.safeParse(v).success)).toEqual([false, true, false]);
  for (const union of [messages.Ask, admin.AdminRequest, serial.SerialLogPart]) {
    for (const option of union.options) expect(option.shape.v.safeParse(2).success).toBe(false);
  }
});

test("a chain that is shown has no secrets left", () => {
  const target = job.OtaTarget.parse({
    kind: "ota",
    host: "kitchen.local",
    port: 3232,
    name: "kitchen",
    password: "hunter2",
    encryption: "require",
    encryptionKey: "b3RhLWtleQ",
    api: { port: 6053, encryptionKey: "c2VjcmV0" },
  });
  const record = chain.Chain.parse({
    v: 2,
    id: "0000000000000000",
    kind: "upload",
    configuration: "kitchen",
    createdAt: 0,
    upload: { lane: "upload", name: "upload", spec: { target }, state: "held", attempt: 0 },
  });
  const shown = JSON.stringify(chain.withoutSecrets(record));
  const secret = /hunter2|c2VjcmV0|b3RhLWtleQ|password|encryptionKey/;
  expect(shown).not.toMatch(secret);
  expect(shown).toContain('"port":6053');
  expect(shown).toContain('"encryption":"require"');
  const serial = {
    kind: "serial",
    port: "porch",
    tool: { kind: "esptool", chip: "esp32" },
    name: "kitchen",
    network: target,
  };
  const spec = { target: job.UploadTarget.parse(serial) };
  const attached = chain.withoutSecrets({ ...record, upload: { ...record.upload!, spec } });
  expect(JSON.stringify(attached)).not.toMatch(secret);
  expect(attached.upload?.spec.target).toMatchObject({ network: { host: "kitchen.local" } });
  expect(chain.withoutSecrets({ ...record, upload: undefined } as never)).not.toHaveProperty("upload.spec");
});
