/**
 * The flash of a simulated chip and the writes to it: raw or deflated, in numbered blocks, each with a checksum. What is not
 * written is erased (0xFF); a block is there when the loader has taken it, so a write that is cut leaves a partial image.
 */
import { createHash } from "node:crypto";
import { createInflate, type Inflate } from "node:zlib";

const flashBytes = 4 * 1024 * 1024;
const sectorBytes = 4096;

interface Write {
  at: number;
  readonly until: number;
  readonly inflate?: Inflate;
}

export class SimulatedFlash {
  readonly content: Buffer = Buffer.alloc(flashBytes, 0xff);
  /** Flips a bit of what is written there. */
  readonly #corruptAt: number | undefined;
  #write: Write | undefined;

  constructor(corruptAt?: number) {
    this.#corruptAt = corruptAt;
  }

  /** @returns false for a place that the flash does not have. */
  begin(bytes: number, offset: number, isDeflated: boolean): boolean {
    if (offset + bytes > flashBytes) return false;
    const erasedUntil = Math.ceil((offset + bytes) / sectorBytes) * sectorBytes;
    this.content.fill(0xff, offset - (offset % sectorBytes), Math.min(erasedUntil, flashBytes));
    const write: Write = { at: offset, until: offset + bytes, ...(isDeflated ? { inflate: createInflate() } : {}) };
    write.inflate?.on("data", (chunk: Buffer) => this.#put(write, chunk));
    this.#write = write;
    return true;
  }

  /** @returns false for a block of no write, or one that is not deflated as it should be. */
  async block(data: Buffer): Promise<boolean> {
    const write = this.#write;
    if (write === undefined) return false;
    if (write.inflate === undefined) {
      this.#put(write, data);
      return true;
    }
    const inflate = write.inflate;
    try {
      await new Promise<void>((resolve, reject) => {
        inflate.once("error", reject);
        inflate.write(data, () => {
          inflate.off("error", reject);
          resolve();
        });
      });
    } catch {
      return false;
    }
    return true;
  }

  digest(offset: number, bytes: number): Buffer {
    return createHash("md5")
      .update(this.content.subarray(offset, offset + bytes))
      .digest();
  }

  finish(): void {
    this.#write?.inflate?.destroy();
    this.#write = undefined;
  }

  #put(write: Write, data: Buffer): void {
    // The last raw block is padded.
    const kept = data.subarray(0, write.until - write.at);
    kept.copy(this.content, write.at);
    const corruptAt = this.#corruptAt ?? -1;
    if (corruptAt >= write.at && corruptAt < write.at + kept.length) {
      this.content[corruptAt] = (this.content[corruptAt] ?? 0) ^ 1;
    }
    write.at += kept.length;
  }
}
