/** What every way of flashing a device tells its caller. */
import type { Failure } from "#protocol/failure.ts";
import type { AuthMethod, Compression } from "#upload-agent/ota-protocol.ts";

/** Steps of a flash in the words of `Failure.phase`: “the connection broke while sending”. */
export type FlashPhase = "connecting" | "negotiating" | "authenticating" | "preparing" | "sending" | "committing";

export type FlashEvent =
  | { readonly kind: "phase"; readonly phase: FlashPhase }
  | {
      readonly kind: "negotiated";
      readonly version: 1 | 2;
      readonly compression: Compression;
      readonly authentication: AuthMethod | "none";
      readonly encrypted: boolean;
    }
  /** Bytes on the wire, so compressed ones where the device takes them. `sentBytes` never falls and ends at `totalBytes`. */
  | { readonly kind: "progress"; readonly sentBytes: number; readonly totalBytes: number };

export type FlashResult =
  | {
      readonly ok: true;
      /** The device acknowledged that it took the image; whether it runs it is for a probe to say. */
      readonly level: "committed";
      readonly compression: Compression;
      readonly wireBytes: number;
    }
  | { readonly ok: false; readonly failure: Failure };
