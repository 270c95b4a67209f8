/** What can go wrong with a device while it is flashed, as a simulated one does it on purpose. */

/** The device's answers in their order; `handshake` is that of the cipher, `block` the data phase. */
export type Step =
  | "greeting"
  | "features"
  | "handshake"
  | "nonce"
  | "authenticated"
  | "prepared"
  | "checksum"
  | "block"
  | "received"
  | "committed";

/**
 * What becomes of one frame of a cipher: a changed bit, half of it and then the end or nothing more, ten bytes a second, an endless
 * length, a length of zero, a frame with a MAC and nothing else, or the answer in plaintext.
 */
const frameFlaws = ["forged", "truncated", "stalled", "crawling", "oversize", "empty", "hollow", "unsealed"] as const;
export type FrameFlaw = (typeof frameFlaws)[number];

export interface Fault {
  readonly at: Step;
  /** Bytes to answer instead of the right ones (an error byte also ends the session), or what is done in their place. */
  readonly act: readonly number[] | "close" | "reset" | "silence" | "flood" | FrameFlaw;
  /** What the device still says before. */
  readonly before?: readonly number[];
  /** For `block`: how much of the image arrives first. */
  readonly afterBytes?: number;
  /** For `received` and `committed`: whether the image is taken all the same. */
  readonly commits?: boolean;
}

export function isFlaw(act: Fault["act"]): act is FrameFlaw {
  return (frameFlaws as readonly unknown[]).includes(act);
}

/** Where a device hangs up whatever it is doing: after as many bytes on the wire of its own or of the client. */
export interface HangUp {
  readonly afterSentBytes?: number;
  readonly afterReceivedBytes?: number;
}
