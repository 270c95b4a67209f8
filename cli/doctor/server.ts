/** The NATS server of the farm: whether it is there, who may listen, and whether it can carry a farm. */
import { messageOf, UnavailableError } from "#protocol/errors.ts";
import { streams } from "#protocol/names.ts";
import { chainsStream, type StreamFacts, streamFacts } from "#bus/farm-client.ts";
import { hasTls, serversIn, shownServers } from "#bus/server-addresses.ts";
import { serverCertificateEnd } from "#bus/server-certificate.ts";
import { checkServer } from "#bus/server-check.ts";
import { serverVersionMin } from "#bus/server-version.ts";
import { type Check, failedCheck, ok, problem, warning } from "#cli/doctor/check.ts";
import { checkCertificateEnd } from "#cli/doctor/identity.ts";
import type { Farm } from "#cli/farm.ts";
import { size } from "#cli/render.ts";

/** What can be said of a server that has let us in. @returns `isFit` false where nothing else can be asked of the farm */
export async function checkNats(
  farm: Farm,
  now: number,
): Promise<{ readonly checks: readonly Check[]; readonly isFit: boolean }> {
  const { info } = farm.connection;
  const version = info?.version ?? "of an unknown version";
  const checks: Check[] = [checkSignedIn(farm.credentials?.role.kind), ...(await checkEncryption(farm.servers, now))];
  try {
    await checkServer(farm.connection);
  } catch (error) {
    const fix = `run nats-server ${serverVersionMin} or newer with JetStream, or \`flashyard up\``;
    return { checks: [...checks, failedCheck("NATS server", error, fix)], isFit: false };
  }
  checks.push(ok("NATS server", `${version} with JetStream`), checkPayload(info?.max_payload ?? 0));
  checks.push(...(await checkStreams(farm, info?.cluster !== undefined)));
  return { checks, isFit: true };
}

/** Pure. @param kind of the role that we have signed in with; undefined: nobody asked who we are */
export function checkSignedIn(kind: string | undefined): Check {
  if (kind !== undefined) return ok("farm", `asks who comes; let in as ${kind}`);
  const fix = "use a farm that `flashyard up` makes, or give this one an identity (docs/pairing.md)";
  return warning("farm", "open: whoever reaches the server owns every device and build machine", fix);
}

async function checkEncryption(servers: string, now: number): Promise<readonly Check[]> {
  const urls = serversIn(servers);
  const checks = [checkTransport(servers)];
  for (const url of urls.filter(hasTls)) {
    const name = urls.length === 1 ? "server's certificate" : `certificate of ${shownServers(url)}`;
    const fix = "make the server a new certificate; `flashyard up` does it at each start";
    try {
      checks.push(checkCertificateEnd(name, await serverCertificateEnd(url), now, fix));
    } catch (error) {
      // Of several, one may be away.
      if (!(error instanceof UnavailableError)) throw error;
      checks.push(warning(name, messageOf(error), "start that server, or take it out of the list"));
    }
  }
  return checks;
}

/** Pure. Servers beyond this machine without TLS are refused before. */
export function checkTransport(servers: string): Check {
  const urls = serversIn(servers);
  const isEncrypted = urls.every(hasTls);
  return ok(
    "transport",
    isEncrypted ? `${shownServers(servers)}, encrypted` : `${shownServers(servers)}, on this machine`,
  );
}

/** What deploy/ and `flashyard up` set; a bulk of a thousand configurations has some megabytes. */
const payloadBytes = 8_000_000;

/** Pure. */
export function checkPayload(bytes: number): Check {
  const found = `messages of ${size(bytes)}`;
  if (bytes >= payloadBytes) return ok("largest message", found);
  return warning(
    "largest message",
    found,
    "set `max_payload: 8MB` in the server's configuration: bulk requests may not fit",
  );
}

async function checkStreams(farm: Farm, isClustered: boolean): Promise<readonly Check[]> {
  try {
    const [chains, audit] = await Promise.all([
      streamFacts(farm.connection, chainsStream),
      streamFacts(farm.connection, streams.audit),
    ]);
    return [...checkChains(chains, isClustered), checkAudit(audit)];
  } catch (error) {
    return [failedCheck("atomic batches", error, "look into the server's log")];
  }
}

/** Pure. */
export function checkChains(chains: StreamFacts | undefined, isClustered: boolean): readonly Check[] {
  const name = "atomic batches";
  if (chains === undefined)
    return [problem(name, "there are no chains yet", "start a coordinator: it makes what it needs")];
  const { allowsAtomic, replicas, isOnDisk } = chains;
  const isSafe = !isClustered || replicas > 1;
  const copies = `${replicas} of each record`;
  const again = "start the coordinator again: it brings its streams up to date";
  return [
    allowsAtomic ? ok(name, "allowed on the chains") : problem(name, "not allowed on the chains", again),
    isOnDisk
      ? ok("storage", "the chains are on disk")
      : problem(
          "storage",
          "the chains are in memory only",
          "remove that stream, and start the coordinator: it makes one on disk",
        ),
    isSafe ? ok("copies", copies) : warning("copies", `${copies} in a cluster`, `${again}, with three servers there`),
  ];
}

/** Pure. */
export function checkAudit(audit: StreamFacts | undefined): Check {
  if (audit !== undefined) return ok("audit", "what people ask for is written down");
  return warning(
    "audit",
    "nobody writes down what people ask for",
    "start the coordinator again: it makes the stream FY_AUDIT",
  );
}
