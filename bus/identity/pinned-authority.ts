/** The farm's certificate as one of its servers shows it, before anything of the server is believed. */
import { messageOf, UnavailableError, UsageError } from "#protocol/errors.ts";
import { spkiDigest } from "#bus/identity/spki-digest.ts";
import { certificatesOf } from "#bus/server-certificate.ts";

/**
 * The certificate in the server's chain whose public key is the pin, PEM. It only says which authority to trust: whether the server is
 * one of it, and has its name, is for the connection to check that follows.
 * @param url as `tls://farm.example.org:4222`
 * @throws UsageError `wrong-farm` when no certificate of the chain is that of the pin; UnavailableError when the server does not answer
 */
export async function pinnedAuthority(url: string, pin: string): Promise<string> {
  const chain = await certificatesOf(url).catch((cause: unknown) => {
    throw new UnavailableError("no-server", `no NATS server with TLS answers: ${messageOf(cause)}`, { cause });
  });
  const found = chain.find(({ ca, publicKey }) => ca && spkiDigest(publicKey) === pin);
  if (found !== undefined) return found.toString();
  const message = `the server at ${url} is not of the farm that the line is for: none of its certificates has the pin ${pin}. Nothing was sent to it; have a new line made, and ask who answers at that address`;
  throw new UsageError("wrong-farm", message);
}
