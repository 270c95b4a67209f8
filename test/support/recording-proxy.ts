/**
 * Stands in front of a device's OTA port and writes down every session, so that a test can say whether the device was
 * flashed once. It can also slow a session down, hold it, break it or spoil it.
 *
 * In a process of its own (agents are killed around it):
 * `node test/support/recording-proxy.ts [--at ADDRESS] --listen PORT --to PORT --record FILE [--bytes-per-second N]`
 * prints `listening PORT` when it is ready, and takes the commands `cut`, `freeze`, `thaw`, `bytes-per-second N` and
 * `plan JSON` as lines on its input. Each line of the record is a session as it then stood; the last line of a session counts.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { OtaTranscript, type Side, type Transcript } from "#test/support/ota-transcript.ts";

export interface SessionRecord extends Transcript {
  readonly id: number;
  readonly openedAt: number;
  closedAt?: number;
  /** When the first byte of an image was passed on (ms since 1970, as all instants here). */
  dataAt?: number;
  /** When the device's side was over; a client that stands still can keep the session open for longer. */
  deviceClosedAt?: number;
  /** Bytes that were passed on, of either side. */
  clientBytes: number;
  deviceBytes: number;
}

/** What happens to sessions from now on. */
export interface Plan {
  /** Breaks both sides after this many bytes of the image. */
  readonly cutAfterDataBytes?: number;
  /** Breaks the client's side when the device has all of the image, before the client hears of it. */
  readonly cutAfterLastByte?: boolean;
  /** The device is told another checksum than the client sent. */
  readonly spoilChecksum?: boolean;
}

export class RecordingProxy implements AsyncDisposable {
  readonly sessions: SessionRecord[] = [];
  plan: Plan = {};
  /** Of the client's bytes; `undefined` for as fast as it goes. */
  bytesPerSecond: number | undefined;
  port = 0;
  readonly #to: number;
  readonly #recordFile: string | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #thawed = Promise.withResolvers<void>();
  #watchers: (() => void)[] = [];

  private constructor(options: { to: number; recordFile?: string; bytesPerSecond?: number }) {
    this.#to = options.to;
    this.#recordFile = options.recordFile;
    this.bytesPerSecond = options.bytesPerSecond;
    this.#thawed.resolve();
    this.#server = createServer({ allowHalfOpen: true }, (client) => void this.#session(client));
  }

  /** @param options `to`: the device's port on this machine; `at`: an address of it; `listen`: a port, or any free one. */
  static async start(options: {
    to: number;
    at?: string;
    listen?: number;
    recordFile?: string;
    bytesPerSecond?: number;
  }): Promise<RecordingProxy> {
    const proxy = new RecordingProxy(options);
    proxy.#server.listen(options.listen ?? 0, options.at ?? "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.port = (proxy.#server.address() as { port: number }).port;
    return proxy;
  }

  /** Breaks every session that is open. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Passes nothing on until `thaw`; the connections stand. */
  freeze(): void {
    this.#thawed = Promise.withResolvers<void>();
  }

  thaw(): void {
    this.#thawed.resolve();
  }

  /** Until the record satisfies `condition`; throws after `withinMs`. */
  async until(condition: (sessions: readonly SessionRecord[]) => boolean, withinMs = 10_000): Promise<void> {
    const deadline = AbortSignal.timeout(withinMs);
    while (!condition(this.sessions)) {
      deadline.throwIfAborted();
      const changed = Promise.withResolvers<void>();
      this.#watchers.push(() => changed.resolve());
      deadline.addEventListener("abort", () => changed.resolve(), { once: true });
      await changed.promise;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.thaw();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #session(client: Socket): Promise<void> {
    const transcript = new OtaTranscript();
    const record: SessionRecord = Object.assign(transcript.seen, {
      id: this.sessions.length + 1,
      openedAt: Date.now(),
      clientBytes: 0,
      deviceBytes: 0,
    });
    this.sessions.push(record);
    this.#write(record);
    const device = connect({ host: "127.0.0.1", port: this.#to, allowHalfOpen: true });
    const closed = [client, device].map((socket) => {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      return new Promise<void>((resolve) => {
        // One side that breaks breaks the other, as it would without a proxy.
        socket.on("error", () => this.#break([client, device]));
        socket.on("close", () => {
          this.#sockets.delete(socket);
          if (socket === device) {
            record.deviceClosedAt = Date.now();
            this.#write(record);
          }
          resolve();
        });
      });
    });
    await Promise.all([
      this.#pass(client, device, "client", transcript, record),
      this.#pass(device, client, "device", transcript, record),
      ...closed,
    ]);
    record.closedAt = Date.now();
    this.#write(record);
  }

  #break(sockets: readonly Socket[]): void {
    for (const socket of sockets) if (!socket.destroyed) socket.resetAndDestroy();
  }

  async #pass(from: Socket, to: Socket, side: Side, transcript: OtaTranscript, record: SessionRecord): Promise<void> {
    try {
      for await (const chunk of from.iterator({ destroyOnReturn: false })) {
        for (const slice of this.#slices(chunk as Buffer, side)) {
          await this.#thawed.promise;
          const isCutHere = await this.#passSlice(slice, [from, to], side, transcript, record);
          if (isCutHere) return;
          if (side === "client" && this.bytesPerSecond !== undefined) {
            await delay((slice.length / this.bytesPerSecond) * 1000);
          }
        }
      }
      to.end();
    } catch {
      this.#break([from, to]);
    }
  }

  /** A twentieth of a second's worth at a time, so that a slow session is an even one. */
  *#slices(chunk: Buffer, side: Side): Generator<Buffer> {
    const sliceBytes = side === "client" ? Math.ceil((this.bytesPerSecond ?? Infinity) / 20) : Infinity;
    for (let at = 0; at < chunk.length; at += sliceBytes) {
      yield chunk.subarray(at, Math.min(chunk.length, at + sliceBytes));
    }
  }

  /** @returns true when the plan ends the session here. */
  async #passSlice(
    slice: Buffer,
    [from, to]: readonly [Socket, Socket],
    side: Side,
    transcript: OtaTranscript,
    record: SessionRecord,
  ): Promise<boolean> {
    const before = milestones(record);
    const { cutAfterDataBytes, cutAfterLastByte, spoilChecksum } = this.plan;
    const isSpoiled = side === "client" && spoilChecksum === true && transcript.stage === "checksum";
    transcript.pass(side, slice);
    record[side === "client" ? "clientBytes" : "deviceBytes"] += slice.length;
    if (record.dataBytes > 0) record.dataAt ??= Date.now();
    if (milestones(record) === before) this.#notify();
    else this.#write(record);
    if (side === "device" && cutAfterLastByte === true && transcript.isImageComplete) return false;
    const sent = isSpoiled ? Buffer.from(slice.map((byte) => (byte === 0x30 ? 0x31 : 0x30))) : slice;
    await new Promise<void>((resolve) => to.write(sent, () => resolve()));
    if (side === "device") return false;
    if (cutAfterDataBytes !== undefined && record.dataBytes >= cutAfterDataBytes) {
      this.#break([from, to]);
      return true;
    }
    if (cutAfterLastByte === true && transcript.isImageComplete) {
      // The device is to find all of the image before it finds that nobody listens any more.
      from.resetAndDestroy();
      to.end();
      return true;
    }
    return false;
  }

  #write(record: SessionRecord): void {
    if (this.#recordFile !== undefined) appendFileSync(this.#recordFile, `${JSON.stringify(record)}\n`);
    this.#notify();
  }

  #notify(): void {
    for (const wake of this.#watchers.splice(0)) wake();
  }
}

/** What makes a new line in the record; progress in between does not. */
function milestones(record: SessionRecord): string {
  const { magicSeen, sizeSeen, dataBytes, imageDigest, committed, errorByte } = record;
  return JSON.stringify([magicSeen, sizeSeen, dataBytes > 0, imageDigest, committed, errorByte]);
}

/** The sessions in a record file, each as its last line has it. A line that was cut off by a kill is left out. */
export function readRecord(file: string): readonly SessionRecord[] {
  const sessions = new Map<number, SessionRecord>();
  for (const line of existsSync(file) ? readFileSync(file, "utf8").split("\n") : []) {
    if (!line.endsWith("}")) continue;
    const record = JSON.parse(line) as SessionRecord;
    sessions.set(record.id, record);
  }
  return [...sessions.values()];
}

/** Sessions in which the device was told to take an image. A probe or a broken handshake is none. */
export function flashSessions(sessions: readonly SessionRecord[]): readonly SessionRecord[] {
  return sessions.filter((session) => session.sizeSeen);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      at: { type: "string" },
      listen: { type: "string" },
      to: { type: "string" },
      record: { type: "string" },
      "bytes-per-second": { type: "string" },
    },
  });
  const bytesPerSecond = values["bytes-per-second"];
  const proxy = await RecordingProxy.start({
    to: Number(values.to),
    listen: Number(values.listen ?? 0),
    ...(values.at === undefined ? {} : { at: values.at }),
    ...(values.record === undefined ? {} : { recordFile: values.record }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond: Number(bytesPerSecond) }),
  });
  process.stdout.write(`listening ${proxy.port}\n`);
  for await (const line of createInterface(process.stdin)) {
    const [command, value] = line.split(" ");
    if (command === "cut") proxy.cut();
    else if (command === "freeze") proxy.freeze();
    else if (command === "thaw") proxy.thaw();
    else if (command === "bytes-per-second") proxy.bytesPerSecond = Number(value);
    else if (command === "plan") proxy.plan = JSON.parse(value ?? "{}") as Plan;
  }
}

if (import.meta.main) await main();
