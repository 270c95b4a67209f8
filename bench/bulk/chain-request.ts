/** What is asked for in the benchmark: a build and the flash that depends on it, each of its own configuration and device. */
import { randomBytes } from "node:crypto";
import type { ChainRequest } from "#protocol/admin.ts";
import { chainIdFrom, Configuration, Digest } from "#protocol/ids.ts";

export const esphomeVersion = "2026.10.0";

/** Nobody fetches it. */
const noBundle = Digest.parse("0".repeat(64));

/** @param bundle of its own, or none; no two of them are the same build, because equal ones would be built once */
export function chainRequest(
  number: number,
  bundle: { readonly digest: Digest; readonly entry: string } = {
    digest: noBundle,
    entry: `device-${number}.yaml`,
  },
): ChainRequest {
  const name = `device-${number}`;
  return {
    id: chainIdFrom(Date.now(), randomBytes(6)),
    kind: "install",
    // As the CLI asks for several files.
    priority: "bulk",
    configuration: Configuration.parse(name),
    build: { driver: "esphome", version: esphomeVersion, bundle: bundle.digest, entry: bundle.entry },
    upload: { target: { kind: "ota", host: `${name}.local`, port: 3232, encrypted: false, name } },
  };
}
