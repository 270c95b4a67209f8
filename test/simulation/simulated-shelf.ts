/** A bucket without a fence at the simulated server, as `bus/bucket.ts` has it. */
import type { Shelf } from "#actor/coordinator-ports.ts";
import type { SimulatedConnection } from "#test/simulation/simulated-connection.ts";

const timeoutMs = 5_000;

/** @param values what the server holds, oldest write first */
export function simulatedShelf<T>(connection: SimulatedConnection, name: string, values: Map<string, T>): Shelf<T> {
  const request = <R>(doing: string, work: () => R) => connection.request(`${doing} ${name}`, timeoutMs, work);
  // What is published over one connection arrives once and in its order.
  const write = (doing: string, work: () => void) => connection.requestInOrder(`${doing} ${name}`, timeoutMs, work);
  const newest = (limit: number) => [...values.values()].toReversed().slice(0, limit);
  return {
    putAll: (given) =>
      write("put into", () => {
        for (const [key, value] of given) {
          values.delete(key);
          values.set(key, value);
        }
      }),
    removeAll: (keys) =>
      write("remove from", () => {
        for (const key of keys) values.delete(key);
      }),
    get: (key) => request("get from", () => values.get(key)),
    all: () => request("read", () => newest(Number.POSITIVE_INFINITY)),
    newest: (limit) => request("read", () => newest(limit)),
  };
}
