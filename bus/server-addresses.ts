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

/** For people and logs: without the user names and passwords that URLs may hold. */
export function shownServers(urls: string): string {
  return urls
    .split(",")
    .map((url) => url.trim().replace(/^(?:([a-z]+:\/\/)|)[^/@]*@/, "$1"))
    .join(", ");
}
