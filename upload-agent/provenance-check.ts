/**
 * Whether what is to be flashed was built by an agent of the farm: said by that agent's signature, and by the farm's for the agent. The
 * store, and whoever carries messages, are believed nothing.
 */
import type { KeyObject } from "node:crypto";
import { digestOfManifest, isVouchedFor, readStatement } from "#actor/provenance.ts";
import type { ProvenanceFault } from "#protocol/failure.ts";
import type { UploadDispatch } from "#protocol/messages.ts";
import type { Statement } from "#protocol/provenance.ts";

export type CheckedBuilder =
  | { readonly ok: true; readonly statement: Statement }
  | { readonly ok: false; readonly fault: ProvenanceFault };

/** That the images are those of the manifest is checked as they are fetched. @param authority the farm's public key */
export function checkBuilder(
  authority: KeyObject,
  { manifest, builder, chain, attempt }: UploadDispatch,
): CheckedBuilder {
  const read = readStatement(manifest);
  if (!read.ok) return read;
  if (builder !== undefined && "fault" in builder) return { ok: false, fault: builder.fault };
  const { agent, user } = read.statement;
  const vouch = { agent, user, manifest: digestOfManifest(manifest), chain, attempt };
  const isVouched = builder !== undefined && isVouchedFor(authority, vouch, builder.vouch);
  return isVouched ? read : { ok: false, fault: "not-vouched" };
}
