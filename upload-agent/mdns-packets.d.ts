/** What `upload-agent/mdns-link.ts` uses of multicast-dns 7.2.5, which has no types of its own. What was received is unknown. */
declare module "multicast-dns" {
  import type { Socket } from "node:dgram";

  interface Question {
    readonly name: string;
    readonly type: "PTR" | "SRV" | "TXT" | "A" | "AAAA";
  }

  interface MulticastDns {
    on(event: "response", call: (packet: unknown, from: { readonly port: number }) => void): void;
    on(event: "error" | "warning", call: (error: Error) => void): void;
    query(questions: readonly Question[], sent: (error?: Error | null) => void): void;
    destroy(destroyed: () => void): void;
  }

  interface Options {
    readonly port: number;
    /** A socket that is or will be bound; then `bind: false` and `multicast: false` leave it as it is. */
    readonly socket: Socket;
    readonly bind: false;
    readonly multicast: false;
  }

  function multicastDns(options: Options): MulticastDns;
  export = multicastDns;
}
