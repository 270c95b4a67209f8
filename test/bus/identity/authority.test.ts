import { createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { connect, createServer, type TLSSocket } from "node:tls";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { authorityCertificate, pinOf, serverCertificate } from "#bus/identity/authority.ts";
import { spkiDigest } from "#bus/identity/spki-digest.ts";

const farm = () => ({ authority: generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey });
const hosts = ["farm.example.org", "127.0.0.1", "fd00::1"];

async function shake(offered: { certificate: string; key: string }, ca: string, servername?: string) {
  const server = createServer({ cert: offered.certificate, key: offered.key });
  server.on("tlsClientError", () => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const socket: TLSSocket = connect({
    host: "127.0.0.1",
    port,
    ca,
    ...(servername === undefined ? {} : { servername }),
  });
  try {
    await once(socket, "secureConnect");
  } finally {
    socket.destroy();
    server.close();
  }
}

test("a server of the farm is known by its names and addresses, to whoever has the farm's certificate", async () => {
  const keys = farm();
  const offered = await serverCertificate(keys, hosts, Date.now());
  // A certificate of the authority that was made at another time stands for the same farm.
  const authority = await authorityCertificate(keys);
  await shake(offered, authority);
  await shake(offered, authority, "farm.example.org");
  await expect(shake(offered, authority, "other.example.org")).rejects.toThrow("altnames");
  await expect(shake(offered, await authorityCertificate(farm()))).rejects.toThrow();
});

test("the pin is that of the key, in every certificate of the authority", async () => {
  const keys = farm();
  const certificates = [await authorityCertificate(keys), await authorityCertificate(keys)];
  for (const pem of certificates) expect(spkiDigest(new X509Certificate(pem).publicKey)).toBe(pinOf(keys));
  expect(spkiDigest(createPublicKey(keys.authority))).toBe(pinOf(keys));
  expect(pinOf(farm())).not.toBe(pinOf(keys));
});

test("a server's certificate signs no others, and ends", async () => {
  const { certificate } = await serverCertificate(farm(), hosts, Date.parse("2026-11-26T00:00:00Z"));
  const read = new X509Certificate(certificate);
  expect(read.ca).toBe(false);
  expect(read.validToDate.toISOString()).toBe("2029-02-28T00:00:00.000Z");
  expect(read.subjectAltName).toContain("farm.example.org");
});
