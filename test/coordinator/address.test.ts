import { createPrivateKey } from "node:crypto";
import { expect, test } from "vitest";
import { isSealed, seal } from "#actor/sealing.ts";
import { newAgentSecrets, publicKeysOf } from "#bus/identity/agent-keys.ts";
import { addressing, keeping } from "#coordinator/address.ts";
import { ConfirmDispatch, type Dispatch, UploadDispatch } from "#protocol/messages.ts";
import { secretPurpose } from "#protocol/target-secrets.ts";
import { opened } from "#upload-agent/open-secrets.ts";
import {
  agentNamed,
  buildRequest,
  chainNumber,
  configurationNamed,
  manifestOfBuild,
  targetAt,
  uploadRequest,
} from "#test/support/farm-builders.ts";
import { compileDispatch } from "#test/support/lane-bench.ts";
import { open } from "#actor/sealing.ts";

const farm = newAgentSecrets();
const agent = newAgentSecrets();
const other = newAgentSecrets();
const uploader = agentNamed("uploader");
const purpose = secretPurpose(chainNumber(1));
const identity = { unseal: (text: string, of: string) => open(createPrivateKey(farm.unseal), text, of) };
const address = addressing(identity, (name) => (name === uploader ? publicKeysOf(agent).seal : undefined));

const secrets = {
  password: "hunter2",
  encryptionKey: "a key of the update",
  api: { port: 6053, encryptionKey: "a key of the API" },
};
const shared = { v: 1 as const, chain: chainNumber(1), attempt: 1, configuration: configurationNamed("lamp") };

function upload(change: (secret: string) => string = (secret) => secret) {
  const { password, encryptionKey, api } = secrets;
  const target = {
    ...targetAt("lamp.local"),
    password: change(password),
    encryptionKey: change(encryptionKey),
    api: { port: api.port, encryptionKey: change(api.encryptionKey) },
  };
  const manifest = manifestOfBuild("lamp 1");
  return UploadDispatch.parse({ ...shared, job: "upload", mode: "flash", target, manifest });
}

const toFarm = (secret: string) => seal(publicKeysOf(farm).seal, secret, purpose);
const unseal = createPrivateKey(agent.unseal);

test("an agent reads the secrets of its own job, and nobody else does", () => {
  const recorded = upload(toFarm);
  const sent = address(uploader, recorded);
  const texts = JSON.stringify(sent);
  for (const secret of ["hunter2", "a key of the update", "a key of the API"]) expect(texts).not.toContain(secret);
  expect(opened(sent, unseal)).toEqual(upload());
  expect(opened(sent, createPrivateKey(other.unseal))).toEqual({ detail: expect.stringContaining("other keys") });
  expect(opened(sent, undefined)).toEqual({ detail: expect.stringContaining("no credentials") });
  expect(opened({ ...sent, chain: chainNumber(2) } as Dispatch, unseal)).toHaveProperty("detail");
});

test("a port's device and a confirmation have theirs sealed as well", () => {
  const { target, manifest } = upload(toFarm);
  const confirmation = ConfirmDispatch.parse({ ...shared, job: "confirm", target, manifest });
  expect(opened(address(uploader, confirmation), unseal)).toMatchObject({ target: { password: "hunter2" } });
  const serial = {
    kind: "serial",
    port: "usb-1",
    tool: { kind: "esptool", chip: "esp32" },
    name: "lamp",
    network: target,
  };
  const flash = UploadDispatch.parse({ ...upload(), target: serial });
  const sent = address(uploader, flash);
  expect(JSON.stringify(sent)).not.toContain("hunter2");
  expect(opened(sent, unseal)).toMatchObject({ target: { network: { password: "hunter2" } } });
});

test("a record from before the farm had an identity is sealed on its way", () => {
  const sent = address(uploader, upload()) as ReturnType<typeof upload>;
  expect(sent.target).toMatchObject({ password: expect.stringMatching(/^fys1\./) });
  expect(opened(sent, unseal)).toEqual(upload());
});

test("nothing is sent to an agent whose key is not known, nor what another farm has sealed", () => {
  expect(() => address(agentNamed("nobody"), upload(toFarm))).toThrow("no key");
  const foreign = upload((secret) => seal(publicKeysOf(other).seal, secret, purpose));
  expect(() => address(uploader, foreign)).toThrow("another farm");
});

test("an open farm's jobs, and jobs without a target, go as they are", () => {
  expect(addressing(undefined, () => undefined)(uploader, upload())).toEqual(upload());
  expect(address(uploader, compileDispatch(1))).toEqual(compileDispatch(1));
  expect(opened(upload(), undefined)).toEqual(upload());
  expect(isSealed(toFarm(""))).toBe(true);
});

test("a request whose sender has not sealed its secrets is sealed before it is kept", () => {
  const keep = keeping({ seal: publicKeysOf(farm).seal });
  const plain = uploadRequest(1);
  const request = { ...plain, upload: { ...plain.upload!, target: upload().target } };
  const kept = keep(request);
  expect(JSON.stringify(kept)).not.toContain("hunter2");
  const sent = address(uploader, { ...upload(), target: kept.upload!.target });
  expect(opened(sent, unseal)).toEqual(upload());
  expect(keep(kept)).toEqual(kept);
  expect(keep(buildRequest(2))).toEqual(buildRequest(2));
  expect(keeping(undefined)(request)).toEqual(request);
});
