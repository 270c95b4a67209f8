/** Writes tar archives entry by entry, also such as no honest packer would make. */
import { gzipSync } from "node:zlib";
import { Header, Pax } from "tar";

export interface TarEntry {
  readonly path: string;
  readonly content?: string | Buffer;
  readonly type?:
    | "File"
    | "Directory"
    | "SymbolicLink"
    | "Link"
    | "CharacterDevice"
    | "BlockDevice"
    | "FIFO"
    | "SparseFile";
  readonly linkpath?: string;
  readonly mode?: number;
  /** What an extended header in front of the entry claims; long names get one anyway. */
  readonly extended?: { readonly path?: string; readonly size?: number };
}

export function tarOf(entries: readonly TarEntry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? "");
    const block = Buffer.alloc(512);
    const header = new Header({
      path: entry.path,
      mode: entry.mode ?? 0o644,
      size: content.length,
      type: entry.type ?? "File",
      mtime: new Date(0),
      ...(entry.linkpath === undefined ? {} : { linkpath: entry.linkpath }),
    });
    const isLong = header.encode(block, 0);
    const extended = { ...(isLong ? { path: entry.path } : {}), ...entry.extended };
    const pax = Object.keys(extended).length === 0 ? Buffer.alloc(0) : new Pax(extended).encode();
    return [pax, block, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

export function bundleOf(entries: readonly TarEntry[]): Buffer {
  return gzipSync(tarOf(entries));
}
