/** Whether a flash is encrypted, and its handshake. Until that is over, nothing of the image and no password is sent. */
import type { Failure } from "#protocol/failure.ts";
import { addressOfTarget, encryptionOf, type OtaTarget } from "#protocol/job.ts";
import type { DeviceConnection } from "#upload-agent/device-connection.ts";
import { decodeNoiseKey, handshakeBytes, NoiseHandshake } from "#upload-agent/noise.ts";
import { framed, handshakeMessage, statusOk } from "#upload-agent/noise-frames.ts";
import { NoiseLine, readFrame } from "#upload-agent/noise-line.ts";
import type { OtaDialog } from "#upload-agent/ota-dialog.ts";
import { strange } from "#upload-agent/ota-failure.ts";

/** What is decided before the device is connected to. */
export interface EncryptionPlan {
  readonly isRequired: boolean;
  /** Absent: the device is not asked for a cipher. */
  readonly key?: Uint8Array;
  /** Why a cipher that was wanted will not be there. */
  readonly lack?: string;
}

/** `undefined` where nothing stands in the way of it. */
export function planEncryption(target: OtaTarget): EncryptionPlan | Failure {
  const { policy, key: text } = encryptionOf(target);
  if (policy === "never") return { isRequired: false };
  const key = text === undefined ? undefined : decodeNoiseKey(text);
  const isRequired = policy === "require";
  if (key !== undefined) return { isRequired, key };
  const lack =
    text === undefined ? "the configuration has no key" : "the configuration's key is not 32 bytes in base64";
  return isRequired ? notPossible(addressOfTarget(target), lack) : { isRequired, lack };
}

export function notPossible(address: string, detail: string): Failure {
  return { kind: "encryption-required", address, detail };
}

/** A reason for a refusal is the longest that a device says in the handshake. */
const handshakeFrameBytesMax = 129;
/** A device's field is an answer of one byte; the longest is a request for a password with its nonce. */
const limits = { sentBytesMax: 1_024, takenBytesMax: 128 };

/**
 * Agrees with the device on a cipher and goes on through it.
 * @param prologue everything that both sides have said so far; who changed any of it on the way makes the handshake fail.
 * Failures: `auth-rejected`, `protocol`, `upload-interrupted`, all without effect.
 */
export async function encrypt(
  dialog: OtaDialog,
  connection: DeviceConnection,
  { key, prologue }: { readonly key: Uint8Array; readonly prologue: Uint8Array },
): Promise<Failure | undefined> {
  const { standing } = dialog;
  const rejected = (detail: string): Failure => ({ kind: "auth-rejected", address: standing.address, detail });
  const handshake = new NoiseHandshake({ role: "initiator", key, prologue });
  const unsent = await dialog.send(framed(Buffer.concat([Uint8Array.of(statusOk), handshake.write()])));
  if (unsent !== undefined) return unsent;
  const frame = await readFrame(connection, handshakeFrameBytesMax, dialog.patienceMs);
  if (!(frame instanceof Uint8Array)) return dialog.failureOf(frame);
  const message = handshakeMessage(frame);
  if (!(message instanceof Uint8Array)) {
    return rejected(
      message.isWrongKey
        ? "the encryption key is wrong, or what was said before it was changed on the way"
        : `it refused the cipher: ${message.reason}`,
    );
  }
  if (message.length !== handshakeBytes) return strange(standing, `its handshake has ${message.length} bytes`);
  if (handshake.read(message) === undefined) return rejected("what answers does not know the encryption key");
  dialog.goOn(new NoiseLine(connection, handshake.split(), limits));
  return undefined;
}
