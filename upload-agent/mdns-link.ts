/**
 * The socket of multicast DNS: questions out of every network of the machine, answers in. The only importer of multicast-dns, and of
 * it only the coding of packets is used: its own socket sends out of one network only, and ends the process where the kernel refuses.
 *
 * 1. Nothing that comes from the network, and nothing that the kernel refuses, is thrown.
 * 2. One packet at a time is sent: the network to send out of is a property of the socket.
 */
import { createSocket, type Socket } from "node:dgram";
import { networkInterfaces } from "node:os";
import multicastDns from "multicast-dns";
import { messageOf } from "#protocol/errors.ts";

/** One question of multicast DNS. */
export interface Question {
  readonly name: string;
  readonly type: "PTR" | "SRV" | "TXT" | "A" | "AAAA";
}

export interface MdnsLinkOptions {
  /** IPv4 addresses of this machine, one for each network. */
  readonly networks: () => readonly string[];
  readonly port: number;
  /** An answer, decoded and otherwise as it came. */
  readonly hear: (packet: unknown) => void;
}

export const mdnsPort = 5_353;
const group = "224.0.0.251";
/** RFC 6762, section 11. */
const timeToLive = 255;
/** A machine with containers has dozens of bridges. */
const networksMax = 16;

/** Where there is a way out, the machine itself is none; where the kernel tells none, it chooses one. */
export function ownNetworks(): readonly string[] {
  try {
    const firsts = Object.values(networkInterfaces()).flatMap(
      (addresses) => addresses?.find(({ family }) => family === "IPv4") ?? [],
    );
    const outward = firsts.filter(({ internal }) => !internal);
    return (outward.length > 0 ? outward : firsts).map(({ address }) => address);
  } catch {
    return ["0.0.0.0"];
  }
}

export class MdnsLink {
  readonly #networks: MdnsLinkOptions["networks"];
  readonly #socket: Socket;
  readonly #mdns: ReturnType<typeof multicastDns>;
  #sending: Promise<void> = Promise.resolve();
  #isClosed = false;

  private constructor({ networks, port, hear }: MdnsLinkOptions, socket: Socket) {
    this.#networks = networks;
    this.#socket = socket;
    this.#mdns = multicastDns({ port, socket, bind: false, multicast: false });
    // RFC 6762, section 6: what comes from another port is no answer.
    this.#mdns.on("response", (packet, from) => {
      if (from.port === port && !this.#isClosed) hear(packet);
    });
    // What the kernel refuses is seen where it is asked for, and a packet that cannot be decoded is none.
    this.#mdns.on("error", () => undefined);
    this.#mdns.on("warning", () => undefined);
  }

  /** @returns why multicast is not possible here, in words. */
  static async open(options: MdnsLinkOptions): Promise<MdnsLink | string> {
    let socket: Socket | undefined;
    try {
      socket = createSocket({ type: "udp4", reuseAddr: true });
      // Without a listener any later error would end the process.
      socket.on("error", () => undefined);
      await bound(socket, options.port);
      socket.setMulticastTTL(timeToLive);
      const link = new MdnsLink(options, socket);
      if (link.#join().length > 0) return link;
      await link.close();
      return "no network of this machine takes multicast";
    } catch (error) {
      socket?.close();
      return messageOf(error);
    }
  }

  /** Sends the questions out of every network that there is by now. */
  async ask(questions: readonly Question[]): Promise<void> {
    this.#sending = this.#askAfter(this.#sending, questions);
    await this.#sending;
  }

  async #askAfter(sending: Promise<void>, questions: readonly Question[]): Promise<void> {
    await sending;
    for (const network of this.#isClosed ? [] : this.#join()) await this.#send(network, questions);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#sending;
    const closed = Promise.withResolvers<void>();
    this.#mdns.destroy(() => closed.resolve());
    await closed.promise;
  }

  /** Networks come and go while the agent runs. @returns those that take multicast. */
  #join(): readonly string[] {
    return this.#networks()
      .slice(0, networksMax)
      .filter((network) => {
        try {
          this.#socket.addMembership(group, network);
          return true;
        } catch (error) {
          return (error as NodeJS.ErrnoException).code === "EADDRINUSE";
        }
      });
  }

  /** What cannot be sent is lost, as on every network; questions are repeated. */
  async #send(network: string, questions: readonly Question[]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    try {
      this.#socket.setMulticastInterface(network);
      this.#mdns.query(questions, () => resolve());
    } catch {
      resolve();
    }
    await promise;
  }
}

async function bound(socket: Socket, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("error", reject);
  socket.bind(port, "0.0.0.0", () => resolve());
  await promise;
  socket.off("error", reject);
}
