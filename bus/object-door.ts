/**
 * What the coordinator does in the store of objects for an agent that may not do it itself.
 *
 * 1. An agent has a say over its own pieces only, and an object is there when its meta message has been found to be true of them.
 */
import type { ObjectDoor } from "#actor/coordinator-ports.ts";
import { UsageError } from "#protocol/errors.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Connection } from "#bus/connection.ts";
import { chunkSubject, ownerIn, readFoundMeta, subjectsOwned } from "#bus/object-layout.ts";
import { DirectMessages, inTransfer } from "#bus/object-messages.ts";
import { isWhole } from "#bus/object-writer.ts";

export function objectDoor(connection: Connection, bucket: string): ObjectDoor {
  const open = <T>(doing: string, work: (messages: DirectMessages) => Promise<T>) =>
    inTransfer(connection, { doing }, (end) => DirectMessages.open(connection, bucket, end), work);
  return {
    meta: (digest) =>
      open(`look for ${digest}`, async (messages) => {
        const found = await messages.metaMessage(digest);
        if (found === undefined) return undefined;
        return { text: new TextDecoder().decode(found.data), at: found.time.getTime(), sequence: found.seq };
      }),
    subjects: (filter) => {
      requireWithin(filter, chunkSubject(bucket, ""), "look at");
      return open("list pieces", async (messages) => Object.fromEntries(await messages.subjects(filter)));
    },
    writeMeta: (owner, digest, text) =>
      open(`store ${digest}`, async (messages) => {
        const data = new TextEncoder().encode(text);
        const meta = readFoundMeta({ data, time: new Date(0), seq: 0 });
        if (typeof meta !== "object" || meta.contentDigest !== digest || ownerIn(meta.nuid) !== owner) {
          throw notYours(owner, `say that ${digest} is stored`);
        }
        if (!(await isWhole(messages, meta))) {
          throw new UsageError("incomplete", `pieces of ${digest} are missing: send them again`);
        }
        await messages.writeMeta(digest, data);
      }),
    purge: (owner, filter) => {
      requireWithin(filter, subjectsOwned(bucket, owner).slice(0, -1), "remove", owner);
      return open("remove pieces", (messages) => messages.purge(filter));
    },
  };
}

/** Invariant 1: a filter begins with what may be looked at, and nothing in it reaches farther. */
function requireWithin(filter: string, start: string, doing: string, owner?: AgentId): void {
  const isWithin = filter.startsWith(start) && filter.length > start.length && !/\s/.test(filter);
  if (!isWithin) throw notYours(owner, `${doing} ${JSON.stringify(filter)}`);
}

function notYours(owner: AgentId | undefined, doing: string): UsageError {
  return new UsageError("not-yours", `${owner ?? "an agent"} may not ${doing}`);
}
