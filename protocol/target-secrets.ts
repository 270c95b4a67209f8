/** The secrets in an upload's target: the only place that knows which of its fields are some. */
import { z } from "zod";
import type { ChainRequest } from "#protocol/admin.ts";
import type { ChainId } from "#protocol/ids.ts";
import { ApiTarget, OtaTarget, type UploadTarget } from "#protocol/job.ts";

/** A target whose secrets are not sealed yet, within what the farm carries of each. */
export const OpenOtaTarget = OtaTarget.extend({
  password: z.string().max(256).optional(),
  encryptionKey: z.string().max(64).optional(),
  api: ApiTarget.extend({ encryptionKey: z.string().max(256).optional() }).optional(),
});

/** Each secret as `change` gives it back; undefined takes it away. */
export function withSecrets<T extends UploadTarget>(target: T, change: (secret: string) => string | undefined): T;
export function withSecrets(target: UploadTarget, change: (secret: string) => string | undefined): UploadTarget {
  if (target.kind === "ota") return withOtaSecrets(target, change);
  return target.network === undefined ? target : { ...target, network: withOtaSecrets(target.network, change) };
}

/** A request whose target's secrets are as `change` gives them back. */
export function withRequestSecrets(request: ChainRequest, change: (secret: string) => string): ChainRequest {
  const { upload } = request;
  if (upload === undefined) return request;
  return { ...request, upload: { ...upload, target: withSecrets(upload.target, change) } };
}

/** Without the password and the keys of update server and API. */
export function withoutTargetSecrets(target: UploadTarget): UploadTarget {
  return withSecrets(target, () => undefined);
}

/** What the secrets of a chain are sealed for: they open as those of no other. */
export function secretPurpose(chain: ChainId): string {
  return `target ${chain}`;
}

function withOtaSecrets(
  { password, encryptionKey, api, ...target }: OtaTarget,
  change: (secret: string) => string | undefined,
): OtaTarget {
  const changed = (secret: string | undefined) => (secret === undefined ? undefined : change(secret));
  const [newPassword, newKey] = [changed(password), changed(encryptionKey)];
  return {
    ...target,
    ...(newPassword === undefined ? {} : { password: newPassword }),
    ...(newKey === undefined ? {} : { encryptionKey: newKey }),
    ...(api === undefined ? {} : { api: apiWith(api, changed(api.encryptionKey)) }),
  };
}

function apiWith({ port }: NonNullable<OtaTarget["api"]>, encryptionKey: string | undefined) {
  return encryptionKey === undefined ? { port } : { port, encryptionKey };
}
