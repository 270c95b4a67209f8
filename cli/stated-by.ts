/** Who the command line says that it works for: what the audit shows beside what credentials prove. */
import { hostname, userInfo } from "node:os";

/** `user@host`; in a container the user may be a number only. */
export function statedBy(): string {
  return `${userName()}@${hostname()}`.slice(0, 200);
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? "?");
  }
}
