/** What every way of flashing a device tells its caller. */
import type { Failure } from "#protocol/failure.ts";
import type { AuthMethod, Compression } from "#upload-agent/ota-protocol.ts";

/**
 * Steps of a flash in the words of `Failure.phase`: “the connection broke while sending”. A port is waited for (`queueing`) and
 * the chip behind it asked who it is (`identifying`).
 */
export type FlashPhase =
  | "queueing"
  | "identifying"
  | "connecting"
  | "negotiating"
  | "authenticating"
  | "preparing"
  | "sending"
  | "committing";

export type FlashEvent =
  | { readonly kind: "phase"; readonly phase: FlashPhase }
  | {
      readonly kind: "negotiated";
      readonly version: 1 | 2;
      readonly compression: Compression;
      readonly authentication: AuthMethod | "none";
      readonly encrypted: boolean;
      /** Why it is in plaintext although a cipher was wanted; to be said to people. */
      readonly fallback?: string;
    }
  /** A port's chip has said who it is. */
  | { readonly kind: "identified"; readonly identity: SerialIdentity }
  /** What the program that flashes over a port says. */
  | { readonly kind: "line"; readonly text: string }
  /**
   * Over the air bytes on the wire, so compressed ones where the device takes them; over a port bytes of the images. `sentBytes`
   * never falls and ends at `totalBytes`.
   */
  | { readonly kind: "progress"; readonly sentBytes: number; readonly totalBytes: number };

/** Who answered at a port; what a tool cannot find out is absent. */
export interface SerialIdentity {
  /** As in `EspChip`, or avrdude's name of the part. */
  readonly chip?: string;
  /** `ESP32-C3 (QFN32) (revision v0.4)` */
  readonly description?: string;
  /** `24:0A:C4:12:34:56` */
  readonly mac?: string;
}

export type FlashResult =
  | {
      readonly ok: true;
      /** The device acknowledged that it took the image; whether it runs it is for a probe to say. */
      readonly level: "committed";
      readonly compression: Compression;
      readonly wireBytes: number;
    }
  | { readonly ok: false; readonly failure: Failure };
