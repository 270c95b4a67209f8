/**
 * The native API of a simulated device, in plaintext or through a cipher: well-behaved, or one of the ways in which what answers
 * there can be wrong.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { DeviceReport } from "#protocol/job.ts";
import { type ApiWire, openApiWire } from "#simulator/api-wire.ts";
import { ByteReader } from "#simulator/byte-reader.ts";
import { deviceInfo, hello, messageType } from "#simulator/api-messages.ts";

export type ApiMode =
  | "plain"
  /** Pings, asks for the time and sends what nobody asked for before it answers; every byte in a segment of its own. */
  | "chatty"
  /** Only speaks encrypted, with a key that nobody knows. */
  | "encrypted"
  | "silent"
  | "closing"
  /** Announces a message of 2^28 bytes; through a cipher, one that is longer than its frame. */
  | "huge"
  /** An endless length; through a cipher, a frame that never ends. */
  | "endless-length"
  /** A body whose field lengths lead beyond its end. */
  | "malformed"
  | "http"
  /** Pings for ever and never answers. */
  | "pinging"
  /** Refuses the handshake of a cipher, in words that would rearrange a terminal. */
  | "rejecting"
  /** Its part of the handshake was made with another key. */
  | "forging"
  /** Its answer was changed on the way. */
  | "forged"
  /** Through a cipher, a message that ends before its own length does; in plaintext it says nothing. */
  | "stub"
  /** Stops inside its part of the handshake. */
  | "stalling";

export class SimulatedApi implements AsyncDisposable {
  mode: ApiMode;
  /** Connections so far. */
  asked = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #report: () => DeviceReport | undefined;
  readonly #key: string | undefined;

  /**
   * @param report what the device says of itself now; `undefined` while it restarts and hangs up on everybody.
   * @param key in base64; with one it only speaks encrypted.
   */
  constructor(report: () => DeviceReport | undefined, mode: ApiMode = "plain", key?: string) {
    this.#report = report;
    this.mode = mode;
    this.#key = key;
    this.#server = createServer((socket) => void this.#serve(socket));
  }

  /** @param port 0 for a free one; a device keeps its port when its address changes, and all of 127.0.0.0/8 is this machine. */
  async listen(host = "127.0.0.1", port = 0): Promise<number> {
    this.#server.listen(port, host);
    await once(this.#server, "listening");
    return (this.#server.address() as { port: number }).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #serve(socket: Socket): Promise<void> {
    this.asked++;
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    socket.setNoDelay(true);
    const reader = new ByteReader(socket);
    const report = this.#report();
    if (report === undefined || this.mode === "closing") return void socket.destroy();
    if (this.mode === "silent") return reader.over();
    const wire = await openApiWire({ socket, reader, mode: this.mode, key: this.#key, report });
    if (wire !== undefined) await this.#converse(socket, wire, report);
    socket.end();
  }

  async #converse(socket: Socket, wire: ApiWire, report: DeviceReport): Promise<void> {
    while (!socket.destroyed) {
      const received = await wire.receive();
      if (received === undefined) return;
      await this.#answer(socket, wire, received.type, report);
    }
  }

  async #answer(socket: Socket, wire: ApiWire, type: number, report: DeviceReport): Promise<void> {
    if (type === messageType.disconnect) return void socket.end(wire.message(messageType.goodbye));
    if (type === messageType.hello) return void socket.write(wire.message(messageType.helloAnswer, hello(report)));
    if (type !== messageType.infoRequest) return;
    switch (this.mode) {
      case "plain":
        return void socket.write(wire.message(messageType.info, deviceInfo(report)));
      case "chatty": {
        const all = Buffer.concat([
          wire.message(messageType.ping),
          wire.message(messageType.timeRequest),
          wire.message(199, Buffer.alloc(300)),
          wire.message(messageType.info, deviceInfo(report)),
        ]);
        for (const byte of all) await new Promise((resolve) => socket.write(Buffer.of(byte), resolve));
        return;
      }
      case "huge":
        return void socket.write(wire.huge());
      case "endless-length":
        return void socket.write(wire.endless());
      case "malformed":
        return void socket.write(wire.message(messageType.info, Buffer.of(0x12, 0x7f, 0x41)));
      case "http":
        return void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
      case "pinging":
        while (!socket.destroyed) {
          await new Promise((resolve) => socket.write(wire.message(messageType.ping), resolve));
          await nextTurn();
        }
        return;
      case "forged": {
        const answer = wire.message(messageType.info, deviceInfo(report));
        answer[answer.length - 1] = (answer.at(-1) ?? 0) ^ 1;
        return void socket.write(answer);
      }
      case "stub":
        return void socket.write(wire.stub());
      case "encrypted":
      case "silent":
      case "closing":
      case "rejecting":
      case "forging":
      case "stalling":
        return;
    }
  }
}
