/** A device's end of one connection, which can be slow and can hang up in the middle of a field. */
import type { Socket } from "node:net";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import { ByteReader } from "#simulator/byte-reader.ts";
import type { HangUp } from "#simulator/ota-fault.ts";

export class DeviceSocket {
  readonly socket: Socket;
  readonly #reader: ByteReader;
  readonly #drips: boolean;
  #mayReceive: number;
  #maySend: number;

  /** @param options `drips`: each byte goes in a segment of its own */
  constructor(socket: Socket, options: { readonly drips: boolean; readonly hangUp: HangUp | undefined }) {
    this.socket = socket;
    this.#reader = new ByteReader(socket);
    this.#drips = options.drips;
    this.#mayReceive = options.hangUp?.afterReceivedBytes ?? Infinity;
    this.#maySend = options.hangUp?.afterSentBytes ?? Infinity;
  }

  /** Exactly `count` bytes, or `undefined` when either side hung up before. */
  async exactly(count: number): Promise<Buffer | undefined> {
    if (count < this.#mayReceive) {
      const bytes = await this.#reader.exactly(count);
      this.#mayReceive -= count;
      return bytes;
    }
    await this.#reader.exactly(this.#mayReceive);
    this.close();
    return undefined;
  }

  /** At least one byte and at most `most`. */
  async some(most: number): Promise<Buffer | undefined> {
    if (this.#mayReceive <= 0) return undefined;
    const bytes = await this.#reader.some(Math.min(most, this.#mayReceive));
    this.#mayReceive -= bytes?.length ?? 0;
    if (this.#mayReceive > 0) return bytes;
    this.close();
    return undefined;
  }

  async write(bytes: Uint8Array): Promise<void> {
    const sent = bytes.subarray(0, Math.max(0, this.#maySend));
    this.#maySend -= bytes.length;
    const pieces = this.#drips ? Array.from(sent, (byte) => Buffer.of(byte)) : [sent];
    for (const piece of pieces) await new Promise((resolve) => this.socket.write(piece, resolve));
    if (this.#maySend <= 0) this.close();
  }

  /** Sends ten bytes a second, for as long as anybody listens. */
  async crawl(bytes: Uint8Array): Promise<void> {
    for (const byte of bytes) {
      if (this.socket.destroyed) return;
      await this.write(Uint8Array.of(byte));
      await pause(100);
    }
  }

  /** Sends for as long as anybody listens. */
  async flood(): Promise<void> {
    while (!this.socket.destroyed) {
      await this.write(Buffer.alloc(256, 0x67));
      await nextTurn();
    }
  }

  /** Until the client has left; what it still sends is thrown away. */
  async over(): Promise<void> {
    await this.#reader.over();
  }

  /** A device closes at once; what it has not read makes that a reset. */
  close(): void {
    this.#fallSilent();
    if (!this.socket.destroyed) this.socket.destroySoon();
  }

  /** Without an orderly end before it: a socket of Node that is shut down and reset at once never says that it is closed. */
  reset(): void {
    this.#fallSilent();
    this.socket.resetAndDestroy();
  }

  #fallSilent(): void {
    this.#mayReceive = 0;
    this.#maySend = 0;
  }
}
