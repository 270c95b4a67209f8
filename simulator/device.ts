/**
 * A simulated ESPHome device: an update server in every mode of the protocol, old firmware included, and its native API.
 * It keeps the image that it took and reports that image's build. ESPHome's own uploader accepts it as a device
 * (test/end-to-end/ota-peers.test.ts).
 *
 * 1. One session at a time: further connections wait unanswered, and are reset when the device restarts.
 * 2. `build`, `bootloader` and `partitionTable` change only by a commit; a fault says whether the device commits before it
 *    misbehaves.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { gunzipSync } from "node:zlib";
import type { DeviceReport } from "#protocol/job.ts";
import { buildIn, type DeviceBuild } from "#simulator/device-image.ts";
import { DeviceSocket } from "#simulator/device-socket.ts";
import { hostBuildIn } from "#simulator/host-image.ts";
import { type ApiMode, SimulatedApi } from "#simulator/native-api.ts";
import {
  type DeviceSession,
  OtaConversation,
  type Part,
  type UpdatedDevice,
  type UpdateOptions,
} from "#simulator/ota-conversation.ts";
import type { Fault, HangUp } from "#simulator/ota-fault.ts";

export interface DeviceOptions extends UpdateOptions {
  /** What it runs at first. */
  readonly build: DeviceBuild;
  readonly mac?: string;
  /** Ports on 127.0.0.1; any free ones where they are absent. */
  readonly otaPort?: number;
  readonly apiPort?: number;
  /** Each byte in a segment of its own. */
  readonly drips?: boolean;
  readonly fault?: Fault;
  /** Hangs up in the middle of whatever it is doing. */
  readonly hangUp?: HangUp;
  readonly api?: ApiMode | "none";
}

const imageBytesMax = 16 * 1024 * 1024;
/** A table of an ESP32 always has this size (ESP_PARTITION_TABLE_MAX_LEN). */
export const partitionTableBytes = 0xc00;
const bootloaderBytesMax = 0x8000;

export class SimulatedDevice implements UpdatedDevice, AsyncDisposable {
  readonly options: DeviceOptions;
  build: DeviceBuild;
  /** The image that it took last. */
  image: Uint8Array | undefined;
  bootloader: Uint8Array | undefined;
  partitionTable: Uint8Array | undefined;
  /** It failed while it wrote something that it needs to start. */
  isDegraded = false;
  fault: Fault | undefined;
  /** Called when it has taken an image, before it says so. */
  onCommit: (() => void) | undefined;
  /** Called when a connection to its update server is over. */
  onSessionOver: ((session: DeviceSession) => void) | undefined;
  readonly sessions: DeviceSession[] = [];
  readonly api: SimulatedApi;
  otaPort = 0;
  apiPort = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #last: Promise<void> = Promise.resolve();

  private constructor(options: DeviceOptions) {
    this.options = options;
    this.build = options.build;
    this.fault = options.fault;
    const mode = options.api === undefined || options.api === "none" ? "plain" : options.api;
    this.api = new SimulatedApi(() => this.report, mode, options.encryption?.key);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  static async start(options: DeviceOptions): Promise<SimulatedDevice> {
    const device = new SimulatedDevice(options);
    device.#server.listen(options.otaPort ?? 0, "127.0.0.1");
    await once(device.#server, "listening");
    device.otaPort = (device.#server.address() as { port: number }).port;
    if (options.api !== "none") device.apiPort = await device.api.listen("127.0.0.1", options.apiPort ?? 0);
    return device;
  }

  get report(): DeviceReport {
    return { ...this.build, mac: this.options.mac ?? "02:00:00:00:00:01" };
  }

  /** Until no session is left: then the fields are the device's true state. */
  async settled(): Promise<void> {
    await this.#last;
  }

  refusalOf(part: Part, imageBytes: number): number {
    if (part === "application") return imageBytes === 0 || imageBytes > imageBytesMax ? 0x81 : 0;
    if (this.options.opensPartitions !== true) return 0x8e;
    if (part === "partition-table") return imageBytes === partitionTableBytes ? 0 : 0x8f;
    return imageBytes > bootloaderBytesMax ? 0x91 : 0;
  }

  commit(part: Part, stored: Uint8Array, isGzip: boolean): number {
    const image = isGzip ? gunzipSync(stored) : stored;
    switch (part) {
      case "application": {
        const build = buildIn(image) ?? hostBuildIn(image, this.build.name);
        if (build === undefined) return 0x84;
        this.image = image;
        this.build = build;
        break;
      }
      case "partition-table":
        // The first two bytes of a table and the first of a bootloader, as Espressif's tools write them.
        if (image[0] !== 0xaa || image[1] !== 0x50) return 0x8f;
        this.partitionTable = image;
        break;
      case "bootloader":
        if (image[0] !== 0xe9) return 0x91;
        this.bootloader = image;
        break;
    }
    this.onCommit?.();
    return 0x45;
  }

  degrade(): void {
    this.isDegraded = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    if (this.options.api !== "none") await this.api[Symbol.asyncDispose]();
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    socket.setNoDelay(true);
    const { drips = false, hangUp } = this.options;
    const end = new DeviceSocket(socket, { drips, hangUp });
    const session = { announcedBytes: 0, receivedBytes: 0, committed: false, encrypted: false, isOver: false };
    this.sessions.push(session);
    this.#last = this.#serve(this.#last, end, session);
  }

  async #serve(before: Promise<void>, end: DeviceSocket, session: DeviceSession): Promise<void> {
    await before;
    await new OtaConversation(this, end, session).run();
    session.isOver = true;
    end.close();
    if (session.committed) for (const other of this.#sockets) if (other !== end.socket) other.resetAndDestroy();
    this.onSessionOver?.(session);
  }
}
