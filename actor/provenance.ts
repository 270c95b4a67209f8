/** Signing and checking of who built what (`protocol/provenance.ts`). Pure but for the keys. */
import { type KeyObject, sign, verify } from "node:crypto";
import { digestOf } from "#actor/digest.ts";
import { verifyingKeyOf } from "#actor/nkey.ts";
import type { ArtifactManifest, Provenance } from "#protocol/artifact.ts";
import type { ProvenanceFault } from "#protocol/failure.ts";
import type { Digest } from "#protocol/ids.ts";
import type { BuildSpec } from "#protocol/job.ts";
import {
  canonicalText,
  preAuthentication,
  Statement,
  statementType,
  unsignedText,
  type Vouch,
  vouchText,
  vouchType,
} from "#protocol/provenance.ts";

/** By which a statement names the artifact. */
export function digestOfManifest(manifest: ArtifactManifest): Digest {
  return digestOf(new TextEncoder().encode(unsignedText(manifest)));
}

/** By which a statement names what was asked for. */
export function digestOfSpec(spec: BuildSpec): Digest {
  return digestOf(new TextEncoder().encode(canonicalText(spec)));
}

/** @param key Ed25519, that of `statement.user` */
export function signStatement(key: KeyObject, made: Statement): Provenance {
  const statement = canonicalText(made);
  const signature = sign(null, preAuthentication(statementType, statement), key).toString("base64url");
  return { statement, signature };
}

export type ReadStatement =
  | { readonly ok: true; readonly statement: Statement }
  | { readonly ok: false; readonly fault: ProvenanceFault };

/** The statement of an artifact, if the key that it names has signed it, and of this manifest. Whose key that is, is not asked. */
export function readStatement(manifest: ArtifactManifest): ReadStatement {
  const { provenance } = manifest;
  if (provenance === undefined) return { ok: false, fault: "unsigned" };
  const decoded = Statement.safeParse(parsed(provenance.statement));
  if (!decoded.success) return { ok: false, fault: "not-genuine" };
  const { data: statement } = decoded;
  const signed = preAuthentication(statementType, provenance.statement);
  const signature = Buffer.from(provenance.signature, "base64url");
  if (!isSignedBy(statement, signed, signature)) return { ok: false, fault: "not-genuine" };
  const isOfThis = statement.manifest === digestOfManifest(manifest);
  return isOfThis ? { ok: true, statement } : { ok: false, fault: "other-artifact" };
}

function isSignedBy({ user }: Statement, signed: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(null, signed, verifyingKeyOf(user), signature);
  } catch {
    // Thirty-two bytes that are no point on the curve.
    return false;
  }
}

/** @param authority the farm's P-256 key. @returns base64url */
export function signVouch(authority: KeyObject, vouch: Vouch): string {
  const body = preAuthentication(vouchType, vouchText(vouch));
  return sign("sha256", body, { key: authority, dsaEncoding: "ieee-p1363" }).toString("base64url");
}

/** @param authority the public half */
export function isVouchedFor(authority: KeyObject, vouch: Vouch, signature: string): boolean {
  const body = preAuthentication(vouchType, vouchText(vouch));
  const key = { key: authority, dsaEncoding: "ieee-p1363" } as const;
  return verify("sha256", body, key, Buffer.from(signature, "base64url"));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
