/** The certificate that a NATS server shows. It is asked for by hand: the client keeps its socket to itself. */
import { connect as connectPlain } from "node:net";
import { connect as connectTls } from "node:tls";
import { messageOf, UnavailableError } from "#protocol/errors.ts";

/** A server that is there answers in milliseconds. */
const handshakeMsMax = 5_000;

/**
 * When the certificate ends (ms since 1970). Nothing is trusted for this: whoever signs in checks the chain.
 * @param url `tls://host:port` @throws UnavailableError `no-certificate`
 */
export async function serverCertificateEnd(url: string): Promise<number> {
  const { hostname, port } = new URL(url);
  const host = hostname.replaceAll(/^\[|\]$/g, "");
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const plain = connectPlain({ host, port: port === "" ? 4222 : Number(port), timeout: handshakeMsMax });
  const fail = (cause: unknown) =>
    reject(new UnavailableError("no-certificate", `${url} shows no certificate: ${messageOf(cause)}`, { cause }));
  plain.once("error", fail);
  plain.once("timeout", () => fail("no answer in time"));
  // The server greets in the clear, and only then the handshake begins.
  plain.once("data", () => {
    plain.pause();
    const secured = connectTls({ socket: plain, rejectUnauthorized: false });
    secured.once("error", fail);
    secured.once("secureConnect", () => resolve(Date.parse(secured.getPeerCertificate().valid_to)));
  });
  try {
    return await promise;
  } finally {
    plain.destroy();
  }
}
