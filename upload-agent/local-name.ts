/** Names of multicast DNS: `lamp.local`. Apart from what asks for them, which loads more than an idle agent should hold. */

/** Whether a name is one of those that multicast DNS knows. */
export function isLocal(host: string): boolean {
  return /^([a-z0-9_-]{1,63}\.){1,5}local$/.test(localName(host));
}

/** As it is compared. */
export function localName(host: string): string {
  return host.toLowerCase().replace(/\.$/, "");
}
