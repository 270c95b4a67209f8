/** What a failed flash means, from where it stood when it failed. No I/O; the only place that decides an effect. */
import type { Effect, Failure } from "#protocol/failure.ts";
import type { Ending } from "#upload-agent/device-connection.ts";
import type { FlashPhase } from "#upload-agent/flasher.ts";
import { deviceErrorOf, hexByte, refusal } from "#upload-agent/ota-protocol.ts";

/** Where a flash stands; the session keeps it current. */
export interface Standing {
  readonly address: string;
  readonly deadlineMs: number;
  readonly silenceMs: number;
  phase: FlashPhase;
  /** Bytes of the image, as packed for the wire, that were handed over; counted before each is. */
  sentBytes: number;
  totalBytes: number;
  cutBy: "abort" | "deadline" | undefined;
}

/**
 * What is known of the device when it has not said anything itself. Before the first byte of the image it has only been
 * talked to; later nobody can see from here how much arrived and whether the device made use of it.
 */
function effectNow(standing: Standing): Effect {
  return standing.sentBytes > 0 ? "uncertain" : "none";
}

/** The session was broken off, by whomever. */
export function interrupted(standing: Standing, detail: string): Failure {
  const { address, phase, sentBytes, totalBytes } = standing;
  return { kind: "upload-interrupted", address, phase, effect: effectNow(standing), sentBytes, totalBytes, detail };
}

/** The device does something that the protocol does not know. */
export function strange(standing: Standing, detail: string): Failure {
  const { address, phase } = standing;
  return { kind: "protocol", address, phase, detail, effect: effectNow(standing) };
}

/** A byte that was not wanted: the device's own error where it is one, otherwise something that is not the protocol. */
export function refused(standing: Standing, byte: number): Failure {
  const error = deviceErrorOf(byte);
  if (error === undefined) return strange(standing, `it answered ${hexByte(byte)}`);
  const { address, phase, sentBytes } = standing;
  if (sentBytes === 0) {
    if (byte === refusal.password) return { kind: "auth-rejected", address, detail: error.meaning };
    if (byte === refusal.encryptionRequired) return { kind: "encryption-required", address, detail: error.meaning };
  }
  return { kind: "device-refused", address, code: byte, meaning: error.meaning, phase, effect: error.effect };
}

/**
 * The connection ended, or waiting on it did.
 * @param lastWord the first byte of the device that nobody has read; where it is an error, it says more than the break.
 */
export function ended(standing: Standing, ending: Ending, lastWord: number | undefined): Failure {
  // Behind garbled bytes nothing can be read: what looks like an error there is a part of something else.
  const isWord = ending.kind !== "garbled" && lastWord !== undefined && deviceErrorOf(lastWord) !== undefined;
  if (isWord) return refused(standing, lastWord);
  switch (ending.kind) {
    case "closed":
      return interrupted(standing, "the device closed the connection");
    case "broken":
      return interrupted(standing, ending.detail);
    case "flooded":
      return strange(standing, `it sent ${ending.unreadBytes} bytes that nobody asked for`);
    case "garbled":
      return strange(standing, ending.detail);
    case "silent": {
      const effect = effectNow(standing);
      // Nothing happened to the device, so this may be tried again like any other fault of the network.
      if (effect === "none") return interrupted(standing, "the device stopped answering");
      return { kind: "deadline", stage: "flashing", limit: "silence", limitMs: standing.silenceMs, effect };
    }
    case "cut":
      return standing.cutBy === "deadline"
        ? {
            kind: "deadline",
            stage: "flashing",
            limit: "total",
            limitMs: standing.deadlineMs,
            effect: effectNow(standing),
          }
        : interrupted(standing, "cancelled");
  }
}
