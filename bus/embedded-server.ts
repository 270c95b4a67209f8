/**
 * The farm's own nats-server: a child process on loopback, with JetStream on disk.
 *
 * What was answered is on the disk before the answer (`sync_interval: always`): a farm that said `accepted` keeps its word
 * through a power cut.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChildServer, startChildServer } from "#actor/child-server.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { type FarmTokens, operatorLines } from "#bus/identity/accounts.ts";
import type { ServerCertificate } from "#bus/identity/authority.ts";
import type { FarmKeys } from "#bus/identity/farm-keys.ts";

export interface EmbeddedServer extends ChildServer {
  readonly url: string;
}

export interface EmbeddedServerOptions {
  /** Path of a nats-server that `resolveServerBinary` has accepted. */
  readonly binary: string;
  /** Holds the store, the configuration and the server's log; made when it is not there. */
  readonly folder: string;
  /** Absent: any free port. */
  readonly port?: number;
  /** Anything but `always` is for comparisons only. */
  readonly syncInterval?: "always" | "1s";
  /** Who signs in; absent: everybody may do everything. */
  readonly identity?: { readonly keys: FarmKeys; readonly tokens: FarmTokens };
  /** Shown to whoever connects, from wherever; absent: only this machine reaches the server, without TLS. */
  readonly tls?: ServerCertificate;
  readonly ledger?: GroupLedger;
  readonly onStart?: (pid: number) => void;
}

/** A bulk of 1,000 chains with their manifests fits; nats-server's default of 1 MiB holds about 400. */
const payloadMax = "8MB";

/** @throws UsageError `port-taken`; UnavailableError `server-not-started` */
export async function startEmbeddedServer(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
  const { binary, folder, port, syncInterval = "always", identity, tls, ledger, onStart } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const configuration = join(folder, "nats-server.conf");
  const server = await startChildServer({
    name: "nats-server",
    ...(port === undefined ? {} : { port }),
    ...(ledger === undefined ? {} : { ledger }),
    ...(onStart === undefined ? {} : { onStart }),
    async argvFor(chosen) {
      const lines = [
        `listen: "${tls === undefined ? "127.0.0.1" : "0.0.0.0"}:${chosen}"`,
        "server_name: flashyard",
        `max_payload: ${payloadMax}`,
        `log_file: ${JSON.stringify(join(folder, "nats-server.log"))}`,
        `jetstream { store_dir: ${JSON.stringify(join(folder, "store"))}, sync_interval: ${syncInterval} }`,
        ...(identity === undefined ? [] : operatorLines(identity.keys, identity.tokens, join(folder, "accounts"))),
        ...(tls === undefined ? [] : [await tlsLine(folder, tls)]),
        "",
      ];
      await writeFile(configuration, lines.join("\n"), { mode: 0o600 });
      return [binary, "--config", configuration];
    },
  });
  return { ...server, url: `${tls === undefined ? "nats" : "tls"}://127.0.0.1:${server.port}` };
}

/** A Raspberry Pi's handshake takes longer than the server's own limit of two seconds when everybody comes back at once. */
const handshakeSeconds = 10;

async function tlsLine(folder: string, { certificate, key }: ServerCertificate): Promise<string> {
  const [certificateFile, keyFile] = [join(folder, "server.pem"), join(folder, "server.key")];
  await writeFile(certificateFile, certificate, { mode: 0o600 });
  await writeFile(keyFile, key, { mode: 0o600 });
  const files = `cert_file: ${JSON.stringify(certificateFile)}, key_file: ${JSON.stringify(keyFile)}`;
  return `tls { ${files}, timeout: ${handshakeSeconds} }`;
}
