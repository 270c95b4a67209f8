/** The little of protocol buffers that a device's native API needs. Never trusts a length. */

/** Largest number of bytes of a varint that stands for a length or a type: 28 bits. */
export const shortVarintBytesMax = 4;

/** A non-negative number below 2^31 as a varint. */
export function encodeVarint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Uint8Array.from(bytes);
}

/** A text field: tag, length, UTF-8. */
export function encodeText(field: number, text: string): Uint8Array {
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([encodeVarint((field << 3) | 2), encodeVarint(bytes.length), bytes]);
}

/** A number field. */
export function encodeNumber(field: number, value: number): Uint8Array {
  return Buffer.concat([encodeVarint(field << 3), encodeVarint(value)]);
}

/** The varint at `at` and where it ends; `undefined` when it is cut off or longer than `bytesMax`. */
function varintAt(bytes: Uint8Array, at: number, bytesMax: number): { value: number; end: number } | undefined {
  let value = 0;
  for (let i = 0; i < bytesMax; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    // Beyond 28 bits the value is only stepped over, and what it is does not matter.
    if (i < shortVarintBytesMax) value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  return undefined;
}

/**
 * The length-delimited fields of a message by number, the last of each as the specification has it; all others are
 * stepped over. `undefined` when the message is not well formed.
 */
export function delimitedFields(message: Uint8Array): ReadonlyMap<number, Uint8Array> | undefined {
  const fields = new Map<number, Uint8Array>();
  let at = 0;
  while (at < message.length) {
    const tag = varintAt(message, at, shortVarintBytesMax);
    if (tag === undefined) return undefined;
    const wireType = tag.value & 7;
    at = tag.end;
    if (wireType === 0) {
      const skipped = varintAt(message, at, 10);
      if (skipped === undefined) return undefined;
      at = skipped.end;
    } else if (wireType === 2) {
      const length = varintAt(message, at, shortVarintBytesMax);
      if (length === undefined || length.end + length.value > message.length) return undefined;
      fields.set(tag.value >>> 3, message.subarray(length.end, length.end + length.value));
      at = length.end + length.value;
    } else if (wireType === 1 || wireType === 5) {
      at += wireType === 1 ? 8 : 4;
      if (at > message.length) return undefined;
    } else {
      return undefined;
    }
  }
  return fields;
}
