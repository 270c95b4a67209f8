/** An image as it travels: packed as the device asked for it, with the checksum that the device will compute. */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { deflateRaw, gzip } from "node:zlib";
import { type Compression, deflateWindowBits } from "#upload-agent/ota-protocol.ts";

const deflateRawInBackground = promisify(deflateRaw);
const gzipInBackground = promisify(gzip);

export interface Payload {
  readonly compression: Compression;
  /** What is sent, byte for byte. */
  readonly wire: Uint8Array;
  /**
   * In 32 hexadecimal digits, over what the device writes: it inflates deflate on the way and writes the image, but
   * stores gzip as it came and unpacks it when it restarts.
   */
  readonly md5: string;
}

const md5Of = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");

/** Packs an image in the background. 1 MiB takes about 60 ms, of the 105 s that a device waits for its size. */
export async function packImage(image: Uint8Array, compression: Compression): Promise<Payload> {
  switch (compression) {
    case "deflate": {
      const wire = await deflateRawInBackground(image, { level: 9, windowBits: deflateWindowBits });
      return { compression, wire, md5: md5Of(image) };
    }
    case "gzip": {
      const wire = await gzipInBackground(image, { level: 9 });
      return { compression, wire, md5: md5Of(wire) };
    }
    case "none":
      return { compression, wire: image, md5: md5Of(image) };
  }
}
