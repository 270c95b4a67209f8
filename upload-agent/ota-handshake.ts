/** The start of a flash: device and uploader agree on version, compression and password. Nothing of the device changes. */
import { randomBytes } from "node:crypto";
import type { Failure } from "#protocol/failure.ts";
import type { OtaDialog } from "#upload-agent/ota-dialog.ts";
import { refused, strange } from "#upload-agent/ota-failure.ts";
import {
  answer,
  type AuthMethod,
  clientFeatures,
  type Compression,
  compressionOf,
  deviceFlag,
  magic,
  noisePrologue,
  nonceLength,
  passwordProof,
} from "#upload-agent/ota-protocol.ts";

/** What was agreed before the password. */
export interface Terms {
  readonly version: 1 | 2;
  /** The device wants the kind of update before the size. */
  readonly extended: boolean;
  readonly compression: Compression;
  /** It lets its bootloader and partition table be replaced. */
  readonly opensPartitions: boolean;
  /** Present when the device offers a cipher; it waits for its handshake now, where the client can do one. */
  readonly prologue?: Uint8Array;
}

/** Greets the device and learns what it can do. Failures as of `flashOverTheAir`, all without effect. */
export async function negotiate(dialog: OtaDialog, client: { readonly hasKey: boolean }): Promise<Terms | Failure> {
  const hello = await dialog.tell([magic], [answer.ok]);
  if (typeof hello !== "number") return hello;
  const spoken = await dialog.take(1);
  if (!(spoken instanceof Uint8Array)) return spoken;
  const version = spoken[0];
  if (version !== 1 && version !== 2) return strange(dialog.standing, `it speaks version ${version} and not 1 or 2`);

  const offers = [answer.featureFlags, answer.takesGzip, answer.noFeatures];
  const features = clientFeatures(client);
  const offer = await dialog.tell([Uint8Array.of(features)], offers);
  if (typeof offer !== "number") return offer;
  if (offer !== answer.featureFlags) {
    return {
      version,
      extended: false,
      opensPartitions: false,
      compression: compressionOf({ gzip: offer === answer.takesGzip, deflate: false }),
    };
  }
  const flags = await dialog.take(1);
  if (!(flags instanceof Uint8Array)) return flags;
  const flag = flags[0] ?? 0;
  const has = (one: number) => (flag & one) !== 0;
  return {
    version,
    extended: true,
    compression: compressionOf({ gzip: has(deviceFlag.gzip), deflate: has(deviceFlag.deflate) }),
    opensPartitions: has(deviceFlag.partitions),
    ...(has(deviceFlag.noise) ? { prologue: noisePrologue(version, features, flag) } : {}),
  };
}

/** Answers the device's request for a password, if it makes one. @returns how the device made sure of the uploader. */
export async function authenticate(
  dialog: OtaDialog,
  password: string | undefined,
): Promise<AuthMethod | "none" | Failure> {
  const request = await dialog.expect([answer.authenticated, answer.wantsSha256, answer.wantsMd5]);
  if (typeof request !== "number") return request;
  if (request === answer.authenticated) return "none";
  const method = request === answer.wantsMd5 ? "md5" : "sha256";
  if (password === undefined) {
    const detail = "it asks for a password and the configuration has none";
    return { kind: "auth-rejected", address: dialog.standing.address, detail };
  }
  const nonce = await takeNonce(dialog, nonceLength[method]);
  if (typeof nonce !== "string") return nonce;
  const clientNonce = randomBytes(nonceLength[method] / 2).toString("hex");
  const proof = [clientNonce, passwordProof(method, password, nonce, clientNonce)];
  const fields = proof.map((field) => Buffer.from(field, "latin1"));
  const accepted = await dialog.tell(fields, [answer.authenticated]);
  return typeof accepted === "number" ? method : accepted;
}

async function takeNonce(dialog: OtaDialog, length: number): Promise<string | Failure> {
  const start = await dialog.take(1);
  if (!(start instanceof Uint8Array)) return start;
  // A device that fails here answers one error byte where the nonce would begin.
  const first = start[0] ?? 0;
  if (first >= 0x80) return refused(dialog.standing, first);
  const rest = await dialog.take(length - 1);
  if (!(rest instanceof Uint8Array)) return rest;
  const nonce = Buffer.concat([start, rest]).toString("latin1");
  return /^[0-9a-fA-F]+$/.test(nonce) ? nonce : strange(dialog.standing, "its nonce is not hexadecimal");
}
