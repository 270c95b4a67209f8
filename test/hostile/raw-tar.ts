/** Tar archives byte by byte, also such as no packer would make. */
import { gzipSync } from "node:zlib";

export interface RawEntry {
  readonly name: string | Buffer;
  readonly content?: string | Buffer;
  /** The type flag; `0` is a regular file. */
  readonly type?: string;
  readonly mode?: number;
  /** The size that the header claims; by default that of the content. Bytes stand as they are. */
  readonly size?: number | Buffer;
  readonly link?: string;
  readonly prefix?: string;
  readonly checksum?: number;
}

const blockBytes = 512;

export function entry({ name, content = "", type = "0", mode = 0o644, size, link = "", ...rest }: RawEntry): Buffer {
  const bytes = Buffer.from(content);
  const head = Buffer.alloc(blockBytes);
  const put = (text: string | Buffer, at: number, room: number) => Buffer.from(text).copy(head, at, 0, room);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  put(name, 0, 100);
  put(octal(mode, 7), 100, 8);
  put(octal(0, 7), 108, 8);
  put(octal(0, 7), 116, 8);
  put(typeof size === "object" ? size : octal(size ?? bytes.length, 11), 124, 12);
  put(octal(0, 11), 136, 12);
  put(" ".repeat(8), 148, 8);
  put(type, 156, 1);
  put(link, 157, 100);
  put("ustar\u000000", 257, 8);
  put(rest.prefix ?? "", 345, 155);
  const sum = rest.checksum ?? head.reduce((total, byte) => total + byte, 0);
  put(`${octal(sum, 6)}\u0000 `, 148, 8);
  return Buffer.concat([head, bytes, Buffer.alloc((blockBytes - (bytes.length % blockBytes)) % blockBytes)]);
}

/** An extended header in front of an entry; `g` speaks for all that follow. */
export function pax(fields: Readonly<Record<string, string>>, type: "x" | "g" = "x"): Buffer {
  const lines = Object.entries(fields).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`);
    let length = rest + 1;
    while (String(length).length + rest !== length) length = String(length).length + rest;
    return `${length} ${key}=${value}\n`;
  });
  return entry({ name: "PaxHeader", type, content: lines.join("") });
}

export const end = Buffer.alloc(2 * blockBytes);

export function tar(...blocks: readonly Buffer[]): Buffer {
  return Buffer.concat([...blocks, end]);
}

export function tgz(...blocks: readonly Buffer[]): Buffer {
  return gzipSync(tar(...blocks), { level: 1 });
}
