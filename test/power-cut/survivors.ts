/** What a farm still knows of its promises once its disk has power again. */
import { systemClock } from "#actor/clock.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import { type Connection, connect } from "#bus/connection.ts";
import { askAdmin } from "#bus/farm-client.ts";
import { declareTopology } from "#bus/topology.ts";
import { Chain, jobsOf } from "#protocol/chain.ts";
import { InvariantError, UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import { buckets } from "#protocol/names.ts";
import type { Promises } from "#test/power-cut/busy-users.ts";
import { type Setting, startCoordinator, startServer } from "#test/power-cut/crash-rig.ts";

/** A store with a hundred thousand records is read in three seconds; one that is damaged may never come to its end. */
const readMsMax = 15_000;

export interface Survivors {
  /** Accepted chains that are in the live records or in the history. */
  readonly found: number;
  /** Cancelled chains whose every job is still cancelled. */
  readonly stillCancelled: number;
  /** Accepted chains that a coordinator, started on what is left, knows. */
  readonly answered: number;
}

/** @throws UnavailableError when the server or the coordinator does not come up on what is left. */
export async function survivorsOf(
  promises: Promises,
  setting: Setting,
  binary: string,
  folder: string,
): Promise<Survivors> {
  await using server = await startServer(setting, binary, folder);
  await using connection = await connect(server.url, "survivors");
  const records = await inTime(recordsIn(connection));
  const found = [...promises.accepted].filter((id) => records.has(id));
  const isCancelled = (id: ChainId) => {
    const chain = records.get(id);
    return chain !== undefined && jobsOf(chain).every((job) => job.state === "cancelled");
  };
  await using _coordinator = await startCoordinator(server, connection);
  return {
    found: found.length,
    stillCancelled: [...promises.cancelled].filter(isCancelled).length,
    answered: await countAnswered(connection, found),
  };
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  const isDone = new AbortController();
  const late = systemClock.pause(readMsMax, isDone.signal);
  const first = await Promise.race([work.then((value) => ({ value })), late]);
  isDone.abort();
  if (typeof first === "object") return first.value;
  throw new UnavailableError("too-slow", `the records were not read within ${readMsMax / 1000} s`);
}

/** Without a coordinator: what is in the store and nothing else. */
async function recordsIn(connection: Connection): Promise<ReadonlyMap<ChainId, Chain>> {
  // The store may have lost its streams; a coordinator makes them again too.
  await declareTopology(connection);
  const history = await new Bucket(connection, buckets.history, Chain).all();
  const { chains } = await new ChainStore(connection).load();
  return new Map([...history, ...chains].map((chain) => [chain.id, chain]));
}

async function countAnswered(connection: Connection, ids: readonly ChainId[]): Promise<number> {
  let count = 0;
  for (let at = 0; at < ids.length; at += chainsPerRequestMax) {
    const only = ids.slice(at, at + chainsPerRequestMax);
    const answer = await askAdmin(connection, { v: 1, kind: "chains", ended: 0, only });
    if (answer.kind !== "chains") throw new InvariantError("unexpected-answer", `answered ${answer.kind} to chains`);
    count += answer.live.length + answer.ended.length;
  }
  return count;
}
