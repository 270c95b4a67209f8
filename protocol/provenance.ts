/**
 * Who built an artifact, from what, and with what: a statement that the building agent signs with the key by which it signs in.
 *
 * The ideas are those of in-toto and SLSA (a statement binds a builder and its inputs to the digests of what came out) and of DSSE
 * (what is signed are the exact bytes that are kept, behind an encoding that says their type and length: nothing is parsed before
 * the signature has been checked, and no signature of one type is one of another). The words are the farm's own.
 *
 * 1. A statement repeats nothing that the manifest says: it names the digest of the manifest without its provenance.
 * 2. Whose key it is, the farm says for each flash anew (`Vouch`): whoever flashes trusts neither the store nor the statement.
 */
import { z } from "zod";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { ProvenanceFault } from "#protocol/failure.ts";
import { AgentId, ChainId, Configuration, Digest } from "#protocol/ids.ts";
import { UserKey } from "#protocol/pairing.ts";

export const Statement = z.object({
  v: z.literal(1),
  /** Of the manifest without its provenance, in canonical form. It holds images, tool, version and platform. */
  manifest: Digest,
  /** What was built. */
  bundle: Digest,
  /** Of the build as it was asked for, in canonical form: driver, version, entry or command, flags. */
  spec: Digest,
  driver: z.enum(["esphome", "command"]),
  configuration: Configuration,
  chain: ChainId,
  attempt: z.number().int().positive(),
  agent: AgentId,
  /** By which the signature is checked. */
  user: UserKey,
  farmVersion: z.string().max(40),
  /** The agent's clock (ms since 1970). */
  builtAt: z.number(),
});
export type Statement = z.infer<typeof Statement>;

/** What the farm's authority signs when it has an artifact flashed: this key is this agent's, and may have built this. */
export interface Vouch {
  readonly agent: AgentId;
  readonly user: UserKey;
  readonly manifest: Digest;
  readonly chain: ChainId;
  readonly attempt: number;
}

/** What a dispatch says of the artifact's builder: the signature of a `Vouch` in base64url, or why the farm does not vouch. */
export const BuilderWord = z.union([
  z.object({ vouch: z.base64url().length(86) }),
  z.object({ fault: ProvenanceFault }),
]);
export type BuilderWord = z.infer<typeof BuilderWord>;

/** How the farm knows the key that an artifact was signed with; `former`: it has been replaced since. */
export const BuilderStanding = z.enum(["paired", "former", "revoked", "unknown"]);
export type BuilderStanding = z.infer<typeof BuilderStanding>;

export const statementType = "application/vnd.flashyard.build+json";
export const vouchType = "application/vnd.flashyard.vouch+json";

/** What is signed: DSSE's pre-authentication encoding (github.com/secure-systems-lab/dsse, protocol.md), lengths in bytes. */
export function preAuthentication(type: string, body: string): Uint8Array {
  const encoder = new TextEncoder();
  const bytes = encoder.encode(body);
  return encoder.encode(`DSSEv1 ${encoder.encode(type).length} ${type} ${bytes.length} ${body}`);
}

/** What the digest of a manifest is of. */
export function unsignedText({ provenance: _provenance, ...manifest }: ArtifactManifest): string {
  return canonicalText(manifest);
}

export function vouchText({ agent, user, manifest, chain, attempt }: Vouch): string {
  return canonicalText({ v: 1, agent, user, manifest, chain, attempt });
}

/** JSON with the names of each object in order and without what is undefined: the same text whoever has decoded it last. */
export function canonicalText(value: unknown): string {
  return JSON.stringify(value, (_name, part: unknown) => (isObject(part) ? inOrder(part) : part));
}

function isObject(part: unknown): part is object {
  return typeof part === "object" && part !== null && !Array.isArray(part);
}

function inOrder(part: object): object {
  return Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
