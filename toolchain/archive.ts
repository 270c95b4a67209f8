/**
 * Reading and writing bundles as bytes: a gzipped tar of regular files and folders, and nothing else.
 *
 * The reader trusts nobody: whatever is not a plain file or folder inside the archive's own root is refused by name, and a
 * bomb is refused by its headers or its running count, before it is inflated further.
 */
import { Readable } from "node:stream";
import { createGunzip, gunzipSync, gzipSync } from "node:zlib";
import { Parser, type ReadEntry } from "tar";
import { messageOf } from "#protocol/errors.ts";
import { cleanLine } from "#toolchain/tool-output.ts";
import { bundleBytesMax, bundleFilesMax, bundleUnpackedBytesMax } from "#protocol/limits.ts";

export interface ArchiveEntry {
  /** Relative, with `/` between the parts, none of them empty, `.` or `..`. */
  readonly path: string;
  readonly kind: "file" | "folder";
  readonly isExecutable: boolean;
  readonly bytes: number;
}

/** Takes the content of one file; called synchronously, in order. */
export interface ArchiveSink {
  write(chunk: Buffer): void;
  close(): void;
}

export interface ArchiveLimits {
  readonly bytesMax: number;
  readonly unpackedBytesMax: number;
  readonly filesMax: number;
}

export const bundleLimits: ArchiveLimits = {
  bytesMax: bundleBytesMax,
  unpackedBytesMax: bundleUnpackedBytesMax,
  filesMax: bundleFilesMax,
};

/** Longest path and path part: what every usual file system takes. */
const pathBytesMax = 1_000;
/** Zeros behind the end of a tar: packers fill up to a record, which has 10 KiB by default and at most 1 MiB. */
const paddingBytesMax = 1_048_576;
const blockBytes = 512;
const zeroBlock = Buffer.alloc(blockBytes);
const partBytesMax = 255;

/**
 * The same tar always gives the same bytes: Python's gzip stamps the time into its header, this one stamps nothing,
 * not even the operating system.
 */
export function canonicalGzip(tar: Uint8Array): Buffer {
  const bytes = gzipSync(tar, { level: 9 });
  // RFC 1952, 2.3: byte 9 is the operating system, 255 is "unknown".
  bytes[9] = 255;
  return bytes;
}

/** Inflates at most `bytesMax`. @returns undefined when it is no gzip or is larger. */
export function gunzipBounded(bytes: Uint8Array, bytesMax: number): Buffer | undefined {
  try {
    return gunzipSync(bytes, { maxOutputLength: bytesMax });
  } catch {
    return undefined;
  }
}

/** Walks a bundle that is in memory; otherwise as `readTar`. */
export async function readArchive(
  bytes: Buffer,
  limits: ArchiveLimits,
  open: (entry: ArchiveEntry) => ArchiveSink | undefined,
): Promise<string | undefined> {
  const large = tooManyBytes(bytes.length, limits);
  return large ?? readTar(Readable.from([bytes]).pipe(createGunzip()), limits, open);
}

/** Why a packed bundle of this size is refused. */
export function tooManyBytes(bytes: number, limits: ArchiveLimits): string | undefined {
  return bytes > limits.bytesMax ? `it has ${bytes} bytes, at most ${limits.bytesMax} are allowed` : undefined;
}

/**
 * Walks an inflated bundle and gives each file to the sink that `open` returns for it (none: the content is dropped).
 * @returns what is wrong with the archive, in one line that names the offending entry, or undefined. After a refusal some
 * sinks may have been served and one left unclosed; the caller throws all of it away. What a sink throws is thrown, and so is what
 * the file system throws while the archive is read.
 */
export async function readTar(
  tar: AsyncIterable<Buffer>,
  limits: ArchiveLimits,
  open: (entry: ArchiveEntry) => ArchiveSink | undefined,
): Promise<string | undefined> {
  const gate = new EntryGate(limits);
  let refusal: string | undefined;
  const refuse = (reason: string) => (refusal ??= reason);
  // What a sink throws is the disk's word, not the archive's: it goes to the caller as it is.
  let thrown: { readonly error: unknown } | undefined;
  const guarded = <T>(work: () => T): T | undefined => {
    if (thrown !== undefined) return undefined;
    try {
      return work();
    } catch (error) {
      thrown = { error };
      return undefined;
    }
  };
  const parser = new Parser({
    onwarn: (code, message) => refuse(`it is no sound tar archive (${code}: ${messageOf(message)})`),
    onReadEntry: (raw) => {
      const entry = refusal === undefined ? gate.admit(raw) : refusal;
      if (typeof entry === "string") {
        refuse(entry);
        raw.resume();
        return;
      }
      const sink = guarded(() => open(entry));
      raw.on("data", (chunk) => guarded(() => sink?.write(Buffer.from(chunk))));
      raw.on("end", () => guarded(() => sink?.close()));
    },
  });
  parser.on("ignoredEntry", (raw: ReadEntry) =>
    refuse(`${shown(raw.path)} is a ${raw.type}, only files and folders are allowed`),
  );
  let padding: number | undefined;
  parser.on("eof", () => (padding ??= 0));
  // Headers and padding come on top of what the files hold: up to three blocks an entry.
  const inflatedMax = limits.unpackedBytesMax + limits.filesMax * 2_048 + 1_048_576;
  let inflated = 0;
  try {
    for await (const chunk of tar) {
      // The parser would inflate a second layer by itself, uncounted.
      if (inflated === 0 && isCompressed(chunk)) return "it is compressed twice";
      for (const piece of aroundZeros(chunk, inflated)) {
        inflated += piece.length;
        if (inflated > inflatedMax) return tooLarge(limits);
        if (padding !== undefined) {
          // The parser passes over it, another program might not; and a bomb of zeros would keep both busy.
          padding += piece.length;
          if (padding > paddingBytesMax || piece.some((byte) => byte !== 0)) return "something stands behind its end";
        }
        parser.write(piece);
        if (thrown !== undefined) break;
        if (refusal !== undefined) return refusal;
      }
      if (thrown !== undefined) break;
    }
    if (thrown === undefined) parser.end();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    return `it cannot be unpacked (${messageOf(error)})`;
  }
  if (thrown !== undefined) throw (thrown as { readonly error: unknown }).error;
  return refusal ?? (gate.files === 0 ? "it holds no file" : undefined);
}

/** The chunk whole, or block by block where the archive may end in it. `at` is where it begins. */
function* aroundZeros(chunk: Buffer, at: number): Generator<Buffer> {
  if (!chunk.includes(zeroBlock)) return yield chunk;
  let from = 0;
  for (let to = blockBytes - (at % blockBytes); from < chunk.length; to += blockBytes) {
    yield chunk.subarray(from, to);
    from = to;
  }
}

/** Decides entry by entry what may come in. */
class EntryGate {
  readonly #limits: ArchiveLimits;
  readonly #kinds = new Map<string, "file" | "folder">();
  files = 0;
  #bytes = 0;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** @returns the entry, or the reason to refuse the whole archive. */
  admit(raw: ReadEntry): ArchiveEntry | string {
    const kind = kindOf(raw);
    if (kind === undefined) return `${shown(raw.path)} is a ${raw.type}, only files and folders are allowed`;
    const path = plainPath(raw.path, kind);
    if (path.reason !== undefined) return `${shown(raw.path)} ${path.reason}`;
    // `remain` is what the parser will really deliver; an extended header may claim another size.
    const bytes = Math.max(raw.size, raw.remain);
    // The parser takes a size that it cannot read for none.
    const hasSize = kind === "folder" || raw.header.size !== undefined;
    if (!hasSize || !Number.isSafeInteger(bytes) || bytes < 0) return `${shown(raw.path)} has no valid size`;
    this.#bytes += bytes;
    if (this.#bytes > this.#limits.unpackedBytesMax) return tooLarge(this.#limits);
    const clash = this.#clash(path.parts, kind);
    if (clash !== undefined) return clash;
    if (this.#kinds.size > this.#limits.filesMax) return `it has more than ${this.#limits.filesMax} files and folders`;
    if (kind === "file") this.files += 1;
    return { path: path.parts.join("/"), kind, isExecutable: ((raw.mode ?? 0) & 0o100) !== 0, bytes };
  }

  /**
   * Twins: two entries that some file system takes for one (by case, or by how Unicode composes a name), or a file used as a folder.
   * A bundle then means the same on every build machine.
   */
  #clash(parts: readonly string[], kind: "file" | "folder"): string | undefined {
    const path = parts.join("/");
    const name = folded(path);
    const known = this.#kinds.get(name);
    if (known === "file" || (known === "folder" && kind === "file")) {
      return `${shown(path)} is in it twice, as some file systems see it (upper and lower case are one there)`;
    }
    for (let depth = 1; depth < parts.length; depth++) {
      const above = folded(parts.slice(0, depth).join("/"));
      if (this.#kinds.get(above) === "file") return `${shown(above)} is in it as a file and as a folder`;
      this.#kinds.set(above, "folder");
    }
    if (name !== "") this.#kinds.set(name, kind);
    return undefined;
  }
}

/** Equal for names that are one file on a disk that does not tell case or composition apart. */
export function folded(name: string): string {
  return name.normalize("NFC").toUpperCase().toLowerCase().normalize("NFC");
}

function kindOf(raw: ReadEntry): "file" | "folder" | undefined {
  // The header's own type: an extended header may not change it.
  const type = raw.header.type;
  if (raw.linkpath !== undefined && raw.linkpath !== "") return undefined;
  if (type === "File" || type === "OldFile") return raw.path.endsWith("/") ? "folder" : "file";
  return type === "Directory" ? "folder" : undefined;
}

type PlainPath = { readonly parts: readonly string[]; readonly reason?: undefined } | { readonly reason: string };

function plainPath(path: string, kind: "file" | "folder"): PlainPath {
  if (path.startsWith("/") || /^[A-Za-z]:/.test(path)) return { reason: "is an absolute path" };
  if (/[\p{Cc}\\]/u.test(path)) return { reason: "has a control character or backslash in its name" };
  // What shows the end of a name before its beginning, or on a line of its own, is there to deceive whoever reads it.
  if (/[\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(path))
    return { reason: "has a sign in its name that turns the direction of text" };
  if (path.includes("\ufffd")) return { reason: "has a name that is not UTF-8" };
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) return { reason: "leads out of the bundle" };
  if (parts.length === 0 && kind === "file") return { reason: "has no name" };
  const isTooLong =
    Buffer.byteLength(path) > pathBytesMax || parts.some((part) => Buffer.byteLength(part) > partBytesMax);
  return isTooLong ? { reason: "has too long a name" } : { parts };
}

function isCompressed(head: Buffer): boolean {
  return (head[0] === 0x1f && head[1] === 0x8b) || head.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
}

function tooLarge(limits: ArchiveLimits): string {
  return `it holds more than ${limits.unpackedBytesMax} bytes unpacked`;
}

/** A name from the archive, safe to print. */
function shown(name: string): string {
  return JSON.stringify(cleanLine(name.slice(0, 120)));
}
