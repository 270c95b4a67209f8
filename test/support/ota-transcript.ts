/**
 * Follows an over-the-air session from outside, byte by byte in both directions, and says what the device was asked to do.
 * Written against the protocol and not with the code under test, because it judges that code.
 */
import { createHash } from "node:crypto";
import { gunzipSync, inflateRawSync } from "node:zlib";

/** What has been seen so far; grows as bytes pass. */
export interface Transcript {
  magicSeen: boolean;
  /** The size field was seen: from here on this is a flash session. */
  sizeSeen: boolean;
  /** Bytes of the image on the wire, as announced and as passed on. */
  announcedBytes: number;
  dataBytes: number;
  /** MD5 that the client announced before the first byte: of the image, or of its bytes on the wire when they are gzip. */
  announcedMd5?: string;
  /** SHA-256 of the whole image, unpacked; absent until all of it was seen. */
  imageDigest?: string;
  /** The device's last acknowledgement, `45`. */
  committed: boolean;
  /** First error byte of the device. */
  errorByte?: number;
}

export type Side = "client" | "device";
/** Wants `count` bytes of one side; `greedy` takes what is there, at least one and at most `count`. */
interface Want {
  readonly from: Side;
  readonly count: number;
  readonly greedy?: boolean;
}

export class OtaTranscript {
  readonly seen: Transcript = {
    magicSeen: false,
    sizeSeen: false,
    announcedBytes: 0,
    dataBytes: 0,
    committed: false,
  };
  /** What the client says next. */
  stage: "handshake" | "size" | "checksum" | "data" | "end" = "handshake";
  readonly #waiting: Record<Side, Buffer> = { client: Buffer.alloc(0), device: Buffer.alloc(0) };
  readonly #reading: Generator<Want, void, Buffer>;
  #want: Want | undefined;

  constructor() {
    this.#reading = this.#read();
    this.#want = this.#reading.next().value ?? undefined;
  }

  /** Takes note of bytes that are passed on. */
  pass(from: Side, bytes: Buffer): void {
    // While the image is on its way a device says nothing but its acknowledgements, and at most one error.
    if (from === "device" && this.stage === "data") this.#noteError(bytes.find((byte) => byte >= 0x80));
    this.#waiting[from] = Buffer.concat([this.#waiting[from], bytes]);
    while (this.#want !== undefined) {
      const { from: side, count, greedy } = this.#want;
      const there = this.#waiting[side].length;
      if (there < (greedy === true ? Math.min(1, count) : count)) return;
      const taken = this.#waiting[side].subarray(0, count);
      this.#waiting[side] = this.#waiting[side].subarray(taken.length);
      this.#want = this.#reading.next(taken).value ?? undefined;
    }
  }

  /** True once the last byte of the image has been passed on. */
  get isImageComplete(): boolean {
    return this.seen.sizeSeen && this.seen.dataBytes === this.seen.announcedBytes;
  }

  #noteError(byte: number | undefined): void {
    if (byte !== undefined && byte >= 0x80) this.seen.errorByte ??= byte;
  }

  *#answer(): Generator<Want, number, Buffer> {
    const byte = (yield { from: "device", count: 1 })[0] ?? 0;
    this.#noteError(byte);
    return byte;
  }

  *#read(): Generator<Want, void, Buffer> {
    const { seen } = this;
    const magic = yield { from: "client", count: 5 };
    if (magic.toString("hex") !== "6c26f75c45") return;
    seen.magicSeen = true;
    if ((yield* this.#answer()) !== 0) return;
    const version = (yield { from: "device", count: 1 })[0];
    yield { from: "client", count: 1 };
    const offer = yield* this.#answer();
    const isExtended = offer === 0x48;
    const flags = isExtended ? ((yield { from: "device", count: 1 })[0] ?? 0) : offer === 0x46 ? 0x01 : 0;
    if (offer >= 0x80) return;
    const request = yield* this.#answer();
    if (request === 0x01 || request === 0x02) {
      const length = request === 0x01 ? 32 : 64;
      yield { from: "device", count: length };
      yield { from: "client", count: 2 * length };
      if ((yield* this.#answer()) !== 0x41) return;
    } else if (request !== 0x41) return;

    this.stage = "size";
    if (isExtended) yield { from: "client", count: 1 };
    seen.announcedBytes = (yield { from: "client", count: 4 }).readUInt32BE();
    seen.sizeSeen = true;
    const deflates = isExtended && (flags & 0x08) !== 0;
    if (deflates) yield { from: "client", count: 4 };
    if ((yield* this.#answer()) !== 0x42) return;
    this.stage = "checksum";
    seen.announcedMd5 = (yield { from: "client", count: 32 }).toString("latin1");
    if ((yield* this.#answer()) !== 0x43) return;
    this.stage = "data";

    const pieces: Buffer[] = [];
    while (seen.dataBytes < seen.announcedBytes) {
      const piece = yield { from: "client", count: seen.announcedBytes - seen.dataBytes, greedy: true };
      pieces.push(piece);
      seen.dataBytes += piece.length;
    }
    this.stage = "end";
    const image = unpacked(Buffer.concat(pieces), deflates ? "deflate" : (flags & 0x01) !== 0 ? "gzip" : "none");
    if (image !== undefined) seen.imageDigest = createHash("sha256").update(image).digest("hex");
    let byte = yield* this.#answer();
    // Version 1 has no such acknowledgements, and a device that sends them anyway is not followed further.
    if (version === 2) while (byte === 0x47) byte = yield* this.#answer();
    if (byte === 0x44 && (yield* this.#answer()) === 0x45) seen.committed = true;
  }
}

function unpacked(wire: Buffer, packing: "deflate" | "gzip" | "none"): Buffer | undefined {
  try {
    if (packing === "none") return wire;
    return packing === "gzip" ? gunzipSync(wire) : inflateRawSync(wire);
  } catch {
    return undefined;
  }
}
