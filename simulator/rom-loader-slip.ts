/** Frames of the ESP loaders: SLIP (RFC 1055) around requests and responses (esptool's documentation, “Serial Protocol”). */

const end = 0xc0;
const escape = 0xdb;
const escapedEnd = 0xdc;
const escapedEscape = 0xdd;

export interface LoaderRequest {
  readonly op: number;
  /** Of the payload of a data request: XOR of its bytes with 0xEF. */
  readonly checksum: number;
  readonly data: Buffer;
}

export function slipFrame(bytes: Uint8Array): Buffer {
  const framed = [end];
  for (const byte of bytes) {
    if (byte === end) framed.push(escape, escapedEnd);
    else if (byte === escape) framed.push(escape, escapedEscape);
    else framed.push(byte);
  }
  return Buffer.from([...framed, end]);
}

/** Takes frames out of a stream of bytes; what stands between frames is dropped. */
export class SlipReader {
  #frame: number[] | undefined;
  #isEscaped = false;

  push(bytes: Uint8Array): readonly Buffer[] {
    const frames: Buffer[] = [];
    for (const byte of bytes) {
      if (byte === end) {
        if (this.#frame !== undefined && this.#frame.length > 0) {
          frames.push(Buffer.from(this.#frame));
          this.#frame = undefined;
        } else {
          this.#frame = [];
        }
        this.#isEscaped = false;
      } else if (this.#frame !== undefined) {
        this.#take(this.#frame, byte);
      }
    }
    return frames;
  }

  #take(frame: number[], byte: number): void {
    if (this.#isEscaped) {
      this.#isEscaped = false;
      frame.push(byte === escapedEnd ? end : escape);
    } else if (byte === escape) {
      this.#isEscaped = true;
    } else {
      frame.push(byte);
    }
  }
}

/** @returns undefined for what is no request. */
export function readRequest(frame: Buffer): LoaderRequest | undefined {
  if (frame.length < 8 || frame[0] !== 0) return undefined;
  const data = frame.subarray(8);
  if (data.length !== frame.readUInt16LE(2)) return undefined;
  return { op: frame[1] ?? 0, checksum: frame.readUInt32LE(4), data };
}

/** @param body payload and status bytes */
export function responseFrame(op: number, value: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head[0] = 1;
  head[1] = op;
  head.writeUInt16LE(body.length, 2);
  head.writeUInt32LE(value >>> 0, 4);
  return slipFrame(Buffer.concat([head, body]));
}

/** The loaders' checksum of a data payload. */
export function xorOf(bytes: Uint8Array): number {
  let sum = 0xef;
  for (const byte of bytes) sum ^= byte;
  return sum;
}
