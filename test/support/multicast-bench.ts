/** Multicast DNS on loopback, on a port of its own, so that tests do not hear each other nor the network around this machine. */
import { createSocket, type Socket } from "node:dgram";
import { systemClock } from "#actor/clock.ts";
import { silentLog } from "#actor/log.ts";
import type { Sighting } from "#protocol/sighting.ts";
import { MdnsDevice, type MdnsDeviceOptions } from "#simulator/mdns-device.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { Mdns, type MdnsOptions } from "#upload-agent/mdns.ts";

export const loopback = "127.0.0.1";
const group = "224.0.0.251";

export class MulticastBench implements AsyncDisposable {
  readonly port: number;
  readonly sightings = new Arrivals<Sighting>("sighting");
  /** Everything that goes over the network. */
  readonly packets = new Arrivals<Buffer>("packet");
  readonly #ear: Socket;
  readonly #parts = new AsyncDisposableStack();

  private constructor(port: number, ear: Socket) {
    this.port = port;
    this.#ear = ear;
    ear.on("message", this.packets.push);
  }

  /** @param port left out: one that nobody uses */
  static async open(port = 0): Promise<MulticastBench> {
    const ear = createSocket({ type: "udp4", reuseAddr: true });
    await new Promise<void>((resolve) => ear.bind(port, "0.0.0.0", resolve));
    ear.addMembership(group, loopback);
    ear.setMulticastInterface(loopback);
    return new MulticastBench(ear.address().port, ear);
  }

  async mdns(options: Partial<MdnsOptions> = {}): Promise<Mdns> {
    const networks = () => [loopback];
    const mdns = this.#parts.use(
      new Mdns({ clock: systemClock, log: silentLog, networks, port: this.port, ...options }),
    );
    mdns.onSighting(this.sightings.push);
    await mdns.start();
    return mdns;
  }

  async device(options: Partial<MdnsDeviceOptions> = {}): Promise<MdnsDevice> {
    const own = { name: "sleeper", port: 6_053, mac: "a0b1c2d3e4f5", mdnsPort: this.port };
    return this.#parts.use(await MdnsDevice.start({ ...own, ...options }));
  }

  /** Sends bytes as any program on the network can. */
  async send(bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => this.#ear.send(bytes, this.port, group, () => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
    await new Promise<void>((resolve) => this.#ear.close(() => resolve()));
  }
}
