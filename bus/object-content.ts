/** Where the bytes of an object come from and where they go, a piece at a time. */
import { constants, type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import type { Digest } from "#protocol/ids.ts";

export interface Content {
  readonly bytes: number;
  /** The bytes from `at` on. @throws UsageError when the file has become shorter; UnavailableError for the disk */
  read(at: number, bytes: number): Promise<Uint8Array>;
}

export function contentOf(content: Uint8Array): Content {
  return {
    bytes: content.length,
    read: async (at, bytes) => content.subarray(at, at + bytes),
  };
}

/** @throws UsageError `no-file` when it cannot be read */
export async function openContent(path: string): Promise<Content & AsyncDisposable> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (cause) {
    throw new UsageError("no-file", `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  const { size } = await file.stat();
  return {
    bytes: size,
    async read(at, bytes) {
      const found = await readFrom(file, path, at, bytes);
      if (found !== undefined) return found;
      throw new UsageError("file-changed", `${path} has become shorter while it was stored`);
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** Where a fetched object is put together. */
export interface Draft {
  /** What an earlier transfer has left there; undefined when it came to less. Whether it is right is for the caller to see. */
  kept(at: number, bytes: number): Promise<Uint8Array | undefined>;
  /** @throws UnavailableError for the disk */
  write(at: number, piece: Uint8Array): Promise<void>;
}

export class MemoryDraft implements Draft {
  readonly #pieces: Uint8Array[] = [];

  get content(): Uint8Array {
    return Buffer.concat(this.#pieces);
  }

  async kept(): Promise<undefined> {
    return undefined;
  }

  /** Pieces come in their order. */
  async write(at: number, piece: Uint8Array): Promise<void> {
    if (at === 0) this.#pieces.length = 0;
    this.#pieces.push(piece);
  }
}

/**
 * A file beside its place.
 *
 * 1. It carries the digest in its name: whoever else writes to it at the same time writes the same bytes.
 * 2. Nothing is at the place until the whole is on the disk.
 */
export class FileDraft implements Draft, AsyncDisposable {
  readonly #path: string;
  readonly #draft: string;
  readonly #file: FileHandle;

  private constructor(path: string, draft: string, file: FileHandle) {
    this.#path = path;
    this.#draft = draft;
    this.#file = file;
  }

  /** Goes on with the draft that an earlier transfer has left. @throws UnavailableError for the disk */
  static async open(path: string, digest: Digest): Promise<FileDraft> {
    const draft = `${path}.${digest.slice(0, 16)}.part`;
    // A bundle holds the passwords of its configuration.
    const file = await onDisk(draft, open(draft, constants.O_RDWR | constants.O_CREAT, 0o600));
    return new FileDraft(path, draft, file);
  }

  kept(at: number, bytes: number): Promise<Uint8Array | undefined> {
    return readFrom(this.#file, this.#draft, at, bytes);
  }

  async write(at: number, piece: Uint8Array): Promise<void> {
    for (let done = 0; done < piece.length;) {
      const written = await onDisk(this.#draft, this.#file.write(piece, done, piece.length - done, at + done));
      done += written.bytesWritten;
    }
  }

  /** Invariant 2. @throws UnavailableError for the disk */
  async finish(bytes: number): Promise<void> {
    await onDisk(this.#draft, this.#file.truncate(bytes));
    await onDisk(this.#draft, this.#file.datasync());
    try {
      await rename(this.#draft, this.#path);
    } catch (cause) {
      // By invariant 1, whoever has moved it away has finished the same content.
      const isThere = await stat(this.#path).then(
        (found) => found.size === bytes,
        () => false,
      );
      if (!isThere) throw new UnavailableError("disk", `${this.#draft}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Forgets what has come. */
  async discard(): Promise<void> {
    await rm(this.#draft, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

async function readFrom(file: FileHandle, path: string, at: number, bytes: number): Promise<Uint8Array | undefined> {
  const found = Buffer.allocUnsafe(bytes);
  for (let done = 0; done < bytes;) {
    const { bytesRead } = await onDisk(path, file.read(found, done, bytes - done, at + done));
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return found;
}

/** @throws UnavailableError */
async function onDisk<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw new UnavailableError("disk", `${path}: ${messageOf(cause)}`, { cause });
  }
}
