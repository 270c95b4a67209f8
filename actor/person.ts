/** Whoever runs this process, as the system knows them. */
import { hostname, userInfo } from "node:os";

/** In a container the user may be a number only. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? "?");
  }
}

/** `user@host`: what the command line says that it works for; the audit shows it beside what credentials prove. */
export function statedBy(): string {
  return `${userName()}@${hostname()}`.slice(0, 200);
}
