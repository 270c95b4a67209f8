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
  // Headers and padding come on top of what the files hold: up to three blocks an entry.
  const inflatedMax = limits.unpackedBytesMax + limits.filesMax * 2_048 + 1_048_576;
  let inflated = 0;
  try {
    for await (const chunk of tar) {
      // The parser would inflate a second layer by itself, uncounted.
      if (inflated === 0 && isCompressed(chunk)) return "it is compressed twice";
      inflated += chunk.length;
      if (inflated > inflatedMax) return tooLarge(limits);
      parser.write(chunk);
      if (thrown !== undefined) break;
      if (refusal !== undefined) return refusal;
    }
    if (thrown === undefined) parser.end();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    return `it cannot be unpacked (${messageOf(error)})`;
  }
  if (thrown !== undefined) throw (thrown as { readonly error: unknown }).error;
  return refusal;
}

/** Decides entry by entry what may come in. */
class EntryGate {
  readonly #limits: ArchiveLimits;
  readonly #kinds = new Map<string, "file" | "folder">();
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
    if (!Number.isSafeInteger(bytes) || bytes < 0) return `${shown(raw.path)} has no valid size`;
    this.#bytes += bytes;
    if (this.#bytes > this.#limits.unpackedBytesMax) return tooLarge(this.#limits);
    const clash = this.#clash(path.parts, kind);
    if (clash !== undefined) return clash;
    if (this.#kinds.size > this.#limits.filesMax) return `it has more than ${this.#limits.filesMax} files and folders`;
    return { path: path.parts.join("/"), kind, isExecutable: ((raw.mode ?? 0) & 0o100) !== 0, bytes };
  }

  /** Twins: two entries of one name (also when they differ only in how Unicode composes it), or a file used as a folder. */
  #clash(parts: readonly string[], kind: "file" | "folder"): string | undefined {
    const name = parts.join("/").normalize("NFC");
    const known = this.#kinds.get(name);
    if (known === "file" || (known === "folder" && kind === "file")) return `${shown(name)} is in it twice`;
    for (let depth = 1; depth < parts.length; depth++) {
      const above = parts.slice(0, depth).join("/").normalize("NFC");
      if (this.#kinds.get(above) === "file") return `${shown(above)} is in it as a file and as a folder`;
      this.#kinds.set(above, "folder");
    }
    if (name !== "") this.#kinds.set(name, kind);
    return undefined;
  }
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
  return JSON.stringify(name.slice(0, 120));
}
