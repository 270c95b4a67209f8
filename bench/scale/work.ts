/** What is asked for in the scale benchmark: installs of a thousand configurations, each over a medium of its own kind. */
import type { ChainRequest } from "#protocol/admin.ts";
import { chainIdFrom, Configuration } from "#protocol/ids.ts";
import { digestNumber } from "#bench/scale/ended-chain.ts";

/** More than there are in the history: some have no tree anywhere, and nobody knows how long they take. */
const devices = 3_000;

/** The n-th request of a run, asked for at `at` (ms since 1970). Each has a device of its own while fewer than 3,000 are live. */
export function installNumber(number: number, at: number): ChainRequest {
  const name = `device-${number % devices}`;
  return {
    id: chainIdFrom(at, new Uint8Array([0, number >> 20, number >> 15, number >> 10, number >> 5, number])),
    kind: "install",
    priority: number % 10 === 0 ? "interactive" : "bulk",
    configuration: Configuration.parse(name),
    build: {
      driver: "esphome",
      version: "2026.10.0",
      // No two of them are the same build: equal ones would be built once.
      bundle: digestNumber(1_000_000 + number),
      entry: `${name}.yaml`,
      platform: "esp32",
    },
    upload: {
      target: {
        kind: "ota",
        host: `${name}.local`,
        port: 3232,
        encrypted: false,
        name,
        // One in fifty hangs on one of twenty border routers.
        ...(number % 50 === 0 ? { medium: { kind: "thread", segment: `router-${(number / 50) % 20}` } } : {}),
      },
    },
  };
}
