/** The coordinator's lease at the simulated server: in its memory, gone with a restart, and of age from its last write. */
import type { Lease } from "#actor/lease.ts";
import type { LeaseHolder } from "#protocol/lease.ts";
import type { SimulatedConnection } from "#test/simulation/simulated-connection.ts";

/** As in `bus/coordinator-lease.ts`. */
const timeoutMs = 1_500;

export function simulatedLease(connection: SimulatedConnection, self: Omit<LeaseHolder, "v" | "since">): Lease {
  const { server } = connection.world;
  const { clock } = connection.process;
  const request = <T>(doing: string, work: () => T) => connection.requestInOrder(`${doing} the lease`, timeoutMs, work);
  const isOurs = () => server.lease?.holder === self.holder;
  let since = 0;
  const write = () => {
    server.lease = { v: 1, ...self, since };
    return true;
  };
  return {
    take: () => {
      since = clock.now();
      return request("take", () => (server.lease === undefined || isOurs() ? write() : false));
    },
    renew: () => request("renew", () => (isOurs() ? write() : false)),
    release: () =>
      request("release", () => {
        if (isOurs()) server.lease = undefined;
      }),
    holder: () => request("look at", () => server.lease),
  };
}
