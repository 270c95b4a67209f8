/**
 * The certificates that a NATS server shows, before anything of it is believed. They are asked for by hand: the client keeps its socket
 * to itself.
 */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect as connectPlain, isIP } from "node:net";
import { connect as connectTls, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import { messageOf, UnavailableError } from "#protocol/errors.ts";
import { hostOf } from "#bus/server-addresses.ts";

const defaultPort = 4_222;
/** A server that is there answers in milliseconds. */
const answerMsMax = 5_000;
const chainMax = 10;

/**
 * A server's own certificate, and behind it those that have signed it. Nothing is trusted for this: whoever signs in checks the chain.
 * @param url as `tls://farm.example.org:4222` @throws UnavailableError `no-certificate` when none is shown in time
 */
export async function certificatesOf(url: string): Promise<readonly [X509Certificate, ...X509Certificate[]]> {
  const [host, { port }] = [hostOf(url), new URL(url)];
  const signal = AbortSignal.timeout(answerMsMax);
  const socket = connectPlain({ host, port: port === "" ? defaultPort : Number(port) });
  try {
    // A NATS server speaks first, in the clear, and then waits for the handshake.
    const [greeting] = (await once(socket, "data", { signal })) as [Buffer];
    if (!greeting.toString("latin1").startsWith("INFO ")) {
      throw new UnavailableError("no-certificate", "what answers is no NATS server");
    }
    const name = isIP(host) === 0 ? { servername: host } : {};
    const secured = connectTls({ socket, rejectUnauthorized: false, ...name });
    secured.on("error", () => undefined);
    await once(secured, "secureConnect", { signal });
    return chainOf(secured);
  } catch (cause) {
    throw new UnavailableError("no-certificate", `${url} shows no certificate: ${messageOf(cause)}`, { cause });
  } finally {
    socket.destroy();
  }
}

/** When a server's own certificate ends (ms since 1970). @throws as `certificatesOf` */
export async function serverCertificateEnd(url: string): Promise<number> {
  const [own] = await certificatesOf(url);
  return own.validToDate.getTime();
}

function chainOf(secured: TLSSocket): readonly [X509Certificate, ...X509Certificate[]] {
  let last: DetailedPeerCertificate = secured.getPeerCertificate(true);
  const chain: [X509Certificate, ...X509Certificate[]] = [new X509Certificate(last.raw)];
  // One that has signed itself is its own issuer.
  while (last.issuerCertificate?.raw !== undefined && last.issuerCertificate !== last && chain.length < chainMax) {
    last = last.issuerCertificate;
    chain.push(new X509Certificate(last.raw));
  }
  return chain;
}
