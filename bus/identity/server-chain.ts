/** The farm's certificate as one of its servers shows it, before anything of the server is believed. */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect as connectPlain, isIP, type Socket } from "node:net";
import { connect as connectTls, type DetailedPeerCertificate } from "node:tls";
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import { spkiDigest } from "#bus/identity/spki-digest.ts";

const defaultPort = 4_222;
const answerMsMax = 5_000;
const chainMax = 10;

/**
 * The certificate in the server's chain whose public key is the pin, PEM. It only says which authority to trust: whether the server is
 * one of it, and has its name, is for the connection to check that follows.
 * @param url as `tls://farm.example.org:4222`
 * @throws UsageError `wrong-farm` when no certificate of the chain is that of the pin; UnavailableError when the server does not answer
 */
export async function pinnedAuthority(url: string, pin: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  const socket = connectPlain({ host, port: port === "" ? defaultPort : Number(port) });
  try {
    const found = (await chainOf(socket, host)).find(({ ca, publicKey }) => ca && spkiDigest(publicKey) === pin);
    if (found !== undefined) return found.toString();
  } catch (cause) {
    throw new UnavailableError("no-server", `no NATS server with TLS answers at ${url}: ${messageOf(cause)}`, {
      cause,
    });
  } finally {
    socket.destroy();
  }
  const message = `the server at ${url} is not of the farm that the line is for: none of its certificates has the pin ${pin}. Nothing was sent to it; have a new line made, and ask who answers at that address`;
  throw new UsageError("wrong-farm", message);
}

async function chainOf(socket: Socket, host: string): Promise<readonly X509Certificate[]> {
  const signal = AbortSignal.timeout(answerMsMax);
  // A NATS server speaks first, in the clear, and then waits for the handshake.
  const [greeting] = (await once(socket, "data", { signal })) as [Buffer];
  if (!greeting.toString("latin1").startsWith("INFO ")) throw new Error("what answers is no NATS server");
  const secured = connectTls({ socket, rejectUnauthorized: false, ...(isIP(host) === 0 ? { servername: host } : {}) });
  secured.on("error", () => undefined);
  await once(secured, "secureConnect", { signal });
  const chain: X509Certificate[] = [];
  let next: DetailedPeerCertificate | undefined = secured.getPeerCertificate(true);
  while (next?.raw !== undefined && chain.length < chainMax) {
    chain.push(new X509Certificate(next.raw));
    // One that has signed itself is its own issuer.
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
  }
  return chain;
}
