/**
 * The farm as a certificate authority: what its servers show to whoever connects by TLS.
 *
 * 1. The authority is its key: its certificate can be made again at any time, and every one of them stands for the same farm.
 */
// The certificates' library wants it to be there first.
// oxlint-disable-next-line import/no-unassigned-import
import "reflect-metadata";
import { createPublicKey, type KeyObject, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";
import { spkiDigest } from "#bus/identity/spki-digest.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signing = { name: "ECDSA", hash: "SHA-256" } as const;
const dayMs = 24 * 60 * 60_000;

/** A server whose certificate is made at each start of `flashyard up` never sees its end; others are told of it by `doctor`. */
export const serverDays = 825;
/** A clock that is behind must not refuse what was just made. */
const clockOffMs = dayMs;

const authorityName = "CN=flashyard farm";
const authorityFrom = new Date("2026-01-01T00:00:00Z");
const authorityUntil = new Date("2076-01-01T00:00:00Z");

/** By what a join line knows the farm: SHA-256 of the authority's public key (SPKI, DER), hexadecimal. */
export function pinOf({ authority }: Pick<FarmKeys, "authority">): string {
  return spkiDigest(createPublicKey(authority));
}

/** The authority's own certificate, PEM. */
export async function authorityCertificate({ authority }: Pick<FarmKeys, "authority">): Promise<string> {
  const keys = await pairOf(authority);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: authorityName,
    notBefore: authorityFrom,
    notAfter: authorityUntil,
    keys,
    signingAlgorithm: signing,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return certificate.toString("pem");
}

export interface ServerCertificate {
  /** PEM, behind it the authority's. */
  readonly certificate: string;
  /** PKCS #8, PEM. */
  readonly key: string;
}

/** For a server that is reached by these names and addresses. @param now ms since 1970 */
export async function serverCertificate(
  keys: Pick<FarmKeys, "authority">,
  hosts: readonly string[],
  now: number,
): Promise<ServerCertificate> {
  const authority = await pairOf(keys.authority);
  const server = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.create({
    subject: "CN=flashyard server",
    issuer: authorityName,
    notBefore: new Date(now - clockOffMs),
    notAfter: new Date(now + serverDays * dayMs),
    publicKey: server.publicKey,
    signingKey: authority.privateKey,
    signingAlgorithm: signing,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // A node of a cluster is its neighbours' client.
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host })),
      ),
      await AuthorityKeyIdentifierExtension.create(authority.publicKey),
    ],
  });
  const key = await webcrypto.subtle.exportKey("pkcs8", server.privateKey);
  return {
    certificate: `${certificate.toString("pem")}\n${await authorityCertificate(keys)}\n`,
    key: pem("PRIVATE KEY", Buffer.from(key)),
  };
}

async function pairOf(key: KeyObject) {
  const privateDer = key.export({ type: "pkcs8", format: "der" });
  const publicDer = createPublicKey(key).export({ type: "spki", format: "der" });
  const [privateKey, publicKey] = await Promise.all([
    webcrypto.subtle.importKey("pkcs8", privateDer, algorithm, true, ["sign"]),
    webcrypto.subtle.importKey("spki", publicDer, algorithm, true, ["verify"]),
  ]);
  return { privateKey, publicKey };
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
