/** Whether an agent's connection is there, as the server itself knows. */
import type { AgentId } from "#protocol/ids.ts";
import { UnavailableError } from "#protocol/errors.ts";
import { stopSubject } from "#protocol/names.ts";
import { type Connection, translate } from "#bus/connection.ts";

/** The server says within milliseconds that nobody listens. */
const answerMsMax = 300;

/**
 * False when nobody listens where an agent of this name would hear its stop orders; true also when nobody can say. The agent takes an
 * empty order for none and does not answer: whether it is frozen, its presence tells.
 */
export async function isConnected(connection: Connection, agent: AgentId): Promise<boolean> {
  try {
    await connection.request(stopSubject(agent), undefined, { timeout: answerMsMax });
    return true;
  } catch (cause) {
    const error = translate(cause, `look for ${agent}`);
    return !(error instanceof UnavailableError && error.code === "no-responders");
  }
}
