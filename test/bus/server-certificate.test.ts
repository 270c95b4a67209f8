import { expect, test } from "vitest";
import { startEmbeddedServer } from "#bus/embedded-server.ts";
import { farmTokens } from "#bus/identity/accounts.ts";
import { serverCertificate, serverDays } from "#bus/identity/authority.ts";
import { farmKeysIn } from "#bus/identity/farm-keys.ts";
import { serverCertificateEnd } from "#bus/server-certificate.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const dayMs = 86_400_000;

test("the certificate that a server shows says when it ends", async () => {
  await using folder = await temporaryFolder();
  const keys = await farmKeysIn(`${folder.path}/keys.json`);
  const identity = { keys, tokens: await farmTokens(keys, {}) };
  const tls = await serverCertificate(keys, ["127.0.0.1"], Date.now());
  const options = { binary: await serverBinary(), folder: `${folder.path}/nats`, identity, tls };
  const server = await startEmbeddedServer(options);
  const days = ((await serverCertificateEnd(server.url.replace("nats://", "tls://"))) - Date.now()) / dayMs;
  expect(days).toBeGreaterThan(serverDays - 2);
  expect(days).toBeLessThan(serverDays + 1);
  await server.stop();
});

test("a server without one, and nobody at all, are said to show none", async () => {
  await using folder = await temporaryFolder();
  const server = await startEmbeddedServer({ binary: await serverBinary(), folder: folder.path });
  await expect(serverCertificateEnd(server.url.replace("nats://", "tls://"))).rejects.toThrow("shows no certificate");
  await server.stop();
  await expect(serverCertificateEnd(server.url.replace("nats://", "tls://"))).rejects.toThrow("shows no certificate");
});
