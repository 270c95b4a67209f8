/**
 * The multicast DNS of a device as ESPHome 2026.10 has it: it announces its API when it has joined the network, and answers who asks
 * (`components/mdns/mdns_component.cpp`; the responder is that of ESP-IDF).
 */
import { createSocket, type Socket } from "node:dgram";
import { type Asked, type DeviceRecord, readQuestions, recordType, writeAnswer } from "#simulator/mdns-message.ts";

export interface MdnsDeviceOptions {
  /** `esphome: name:` */
  readonly name: string;
  /** Of its API. */
  readonly port: number;
  /** Twelve hexadecimal digits in lower case, as it says them. */
  readonly mac: string;
  readonly version?: string;
  readonly configHash?: string;
  readonly network?: "wifi" | "ethernet" | "thread";
  readonly address?: string;
  /** Further texts, and other values of the ones above: `key=value`. */
  readonly texts?: readonly string[];
  /** It names its service and nothing else until it is asked for the rest. */
  readonly isTerse?: boolean;
  /** Left out: the port of multicast DNS. */
  readonly mdnsPort?: number;
}

const group = "224.0.0.251";
/** The network that it is in. */
const loopback = "127.0.0.1";
const service = "_esphomelib._tcp.local";
/** The times for which ESP-IDF lets its answers be remembered. */
const sharedTtlSeconds = 4_500;
const ownTtlSeconds = 120;

export class MdnsDevice implements AsyncDisposable {
  readonly #options: MdnsDeviceOptions;
  readonly #socket: Socket;
  readonly #port: number;

  private constructor(options: MdnsDeviceOptions, socket: Socket, port: number) {
    this.#options = options;
    this.#socket = socket;
    this.#port = port;
    socket.on("message", (message, from) => {
      const asked = readQuestions(message);
      // Who asks from another port does not listen to the group.
      if (asked.length > 0) void this.#answer(asked, from.port === port ? undefined : from);
    });
  }

  /** Resolves when it has joined the network and announced itself. */
  static async start(options: MdnsDeviceOptions): Promise<MdnsDevice> {
    const { mdnsPort = 5_353 } = options;
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    const bound = Promise.withResolvers<void>();
    socket.once("error", bound.reject);
    socket.bind(mdnsPort, "0.0.0.0", bound.resolve);
    await bound.promise;
    socket.addMembership(group, loopback);
    socket.setMulticastInterface(loopback);
    socket.setMulticastTTL(255);
    const device = new MdnsDevice(options, socket, mdnsPort);
    await device.announce();
    return device;
  }

  /** What it says unasked when it has joined the network. */
  async announce(): Promise<void> {
    const { service, ...rest } = this.#records();
    await this.#send(
      this.#options.isTerse === true ? writeAnswer([service]) : writeAnswer([service, ...Object.values(rest)]),
    );
  }

  /** What it says before it restarts in order; one whose power goes says nothing. */
  async sayGoodbye(): Promise<void> {
    const gone = Object.values(this.#records()).map((record) => Object.assign(record, { ttlSeconds: 0 }));
    await this.#send(writeAnswer(gone));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }

  async #answer(asked: readonly Asked[], to: Destination | undefined): Promise<void> {
    const records = Object.values(this.#records());
    const answers = records.filter((record) => asked.some((question) => fits(question, record)));
    if (answers.length === 0) return;
    const isAdditional = (record: DeviceRecord) => !answers.includes(record) && record.type !== "PTR";
    const additional = this.#options.isTerse === true ? [] : records.filter(isAdditional);
    await this.#send(writeAnswer(answers, additional), to);
  }

  #records(): {
    readonly service: DeviceRecord;
    readonly port: DeviceRecord;
    readonly texts: DeviceRecord;
    readonly address: DeviceRecord;
  } {
    const { name, port, mac, version = "2026.10.0", configHash = "0badcafe", network = "wifi" } = this.#options;
    const { address = loopback, texts = [] } = this.#options;
    const instance = `${name}.${service}`;
    const host = `${name}.local`;
    const said = [
      ...texts,
      "friendly_name=Simulated device",
      `version=${version}`,
      `config_hash=${configHash}`,
      `mac=${mac}`,
      "platform=ESP32",
      "board=esp32dev",
      `network=${network}`,
    ];
    return {
      service: { name: service, type: "PTR", ttlSeconds: sharedTtlSeconds, target: instance },
      port: { name: instance, type: "SRV", ttlSeconds: ownTtlSeconds, target: host, port },
      texts: { name: instance, type: "TXT", ttlSeconds: sharedTtlSeconds, texts: said },
      address: { name: host, type: "A", ttlSeconds: ownTtlSeconds, address },
    };
  }

  async #send(message: Buffer, to: Destination = { address: group, port: this.#port }): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.send(message, to.port, to.address, () => resolve()));
  }
}

interface Destination {
  readonly address: string;
  readonly port: number;
}

function fits(question: Asked, record: DeviceRecord): boolean {
  const isType = question.type === recordType[record.type] || question.type === recordType.ANY;
  return isType && question.name === record.name.toLowerCase();
}
