/** The servers of a farm, as FLASHYARD_NATS_URL and `--server` name them: one URL, or several with commas between them. Pure. */
import { UsageError } from "#protocol/errors.ts";

/** @throws UsageError `bad-server` when none is named */
export function serversIn(urls: string): readonly string[] {
  const named = urls
    .split(",")
    .map((url) => url.trim())
    .filter((url) => url !== "");
  if (named.length > 0) return named;
  throw new UsageError(
    "bad-server",
    `no NATS server is named in ${JSON.stringify(urls)}: give one URL, or several with commas, as nats://10.8.0.1:4222,nats://10.8.0.2:4222`,
  );
}

export function hasTls(url: string): boolean {
  return /^(tls|wss):\/\//.test(url);
}

/** Passwords and firmware cross no network in the clear. @throws UsageError `tls-required` for a server beyond this machine without TLS */
export function requirePrivate(servers: readonly string[]): void {
  const open = servers.find((url) => !hasTls(url) && !isLoopback(url));
  if (open === undefined) return;
  throw new UsageError(
    "tls-required",
    `${shownServers(open)} is another machine, and what crosses a network is encrypted: give the server a certificate and name it tls://…`,
  );
}

/** Whether what is said to a server never leaves this machine. A name is believed to mean what it says. */
export function isLoopback(url: string): boolean {
  const host = hostOf(url);
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/** A server's name or address; one of IPv6 without its brackets. The client takes `host`, `host:port` and URLs. */
export function hostOf(url: string): string {
  const full = url.includes("://") ? url : `nats://${url}`;
  return URL.canParse(full) ? new URL(full).hostname.replace(/^\[(.*)\]$/, "$1") : url;
}

/** For people and logs: without the user names and passwords that URLs may hold. */
export function shownServers(urls: string): string {
  return urls
    .split(",")
    .map((url) => url.trim().replace(/^(?:([a-z]+:\/\/)|)[^/@]*@/, "$1"))
    .join(", ");
}
