/** The lanes: the coordinator's publishing side, and the agent's pulling side. */
import { AckPolicy, JetStreamApiError, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { decode, encode } from "#protocol/envelope.ts";
import type { AgentId } from "#protocol/ids.ts";
import { type Lane, laneOf } from "#protocol/job.ts";
import { Dispatch, PrefetchHint, StopOrder } from "#protocol/messages.ts";
import { dispatchId, laneConsumer, laneSubject, prefetchSubject, stopSubject, streams } from "#protocol/names.ts";
import { systemClock } from "#actor/clock.ts";
import type { Listening } from "#actor/coordinator-ports.ts";
import type { LaneSource } from "#actor/lane-worker.ts";
import type { Log } from "#actor/log.ts";
import { type Connection, onReconnect, translate } from "#bus/connection.ts";
import { listen } from "#bus/rpc.ts";
import { stopWhenSilent } from "#bus/stream-reader.ts";

/** Delivered and not acknowledged for this long, e.g. to a process that died: delivered again, and dropped by the claim. */
const ackWaitMs = 10_000;

/**
 * Asked for ahead, so that a dispatch never waits for a pull; `max_ack_pending` lets no more through unclaimed than there are slots.
 * What has been claimed is acknowledged, so a job that stores its images keeps nothing back.
 */
const pullMax = 100;

/** JetStream's error for a consumer that is there with other settings. */
const consumerExists = 10148;

/** Puts a job on its agent's lane; the same assignment twice is one message. @throws UnavailableError */
export async function publishDispatch(connection: Connection, agent: AgentId, dispatch: Dispatch): Promise<void> {
  try {
    const msgID = dispatchId(dispatch.chain, dispatch.job, dispatch.attempt);
    await jetstream(connection).publish(laneSubject(laneOf[dispatch.job], agent), encode(dispatch), {
      msgID,
      timeout: 3_000,
    });
  } catch (error) {
    throw translate(error, `dispatch to ${agent}`);
  }
}

/** Best effort: an order that is lost is given again at the agent's next statement. */
export function publishStop(connection: Connection, agent: AgentId, order: StopOrder): void {
  if (!connection.isClosed()) connection.publish(stopSubject(agent), encode(order));
}

/** How an agent gets to its lane. */
export interface LaneDoor {
  /** Has what it is pulled by made ready. @throws UnavailableError */
  open(): Promise<void>;
  /** JetStream's requests, where they do not have their usual prefix. */
  readonly apiPrefix?: string;
}

/**
 * An agent's lane as `actor/lane-worker.ts` wants it. The lane's stream lives in the servers' memory, so after every
 * reconnection, and when a pull ends for any reason, the consumer is made again. So it is when the server falls silent: of a cluster
 * the server that led the consumer may be gone while this agent's own is there, and the client would ask for what is lost with pauses
 * of 30 s, and for ever.
 */
export function laneSource(
  connection: Connection,
  lane: Lane,
  agent: AgentId,
  slots: number,
  log: Log,
  door: LaneDoor = { open: () => openLane(connection, agent, lane, slots) },
): LaneSource {
  const options = door.apiPrefix === undefined ? {} : { apiPrefix: door.apiPrefix };
  return {
    async *pull(signal) {
      let restart: (() => void) | undefined;
      let reconnections = 0;
      onReconnect(connection, () => {
        reconnections += 1;
        restart?.();
      });
      signal.addEventListener("abort", () => restart?.(), { once: true });
      while (!signal.aborted) {
        const before = reconnections;
        try {
          await door.open();
          const consumer = await jetstream(connection, options).consumers.get(streams.lanes, laneConsumer(lane, agent));
          const messages = await consumer.consume({ max_messages: pullMax, idle_heartbeat: 1_000 });
          restart = () => messages.stop();
          void stopWhenSilent(messages);
          // A server that was replaced meanwhile does not know the consumer, and would be asked for its messages for ever.
          if (signal.aborted || reconnections !== before) messages.stop();
          for await (const message of messages) {
            const decoded = decode(Dispatch, message.data);
            if (!decoded.ok) {
              log.warn({ err: decoded.error }, "a lane message cannot be decoded and is parked");
              message.term("cannot be decoded");
              continue;
            }
            yield { dispatch: decoded.value, done: () => message.ack() };
          }
        } catch (error) {
          log.debug({ err: translate(error, `pull ${lane}`) }, "the lane is away");
        }
        if (!signal.aborted) await systemClock.pause(200, signal);
      }
    },
    onStop(handle) {
      return listen(connection, stopSubject(agent), (bytes) => {
        const decoded = decode(StopOrder, bytes);
        if (decoded.ok) handle(decoded.value);
      });
    },
  };
}

/** Hands on what the coordinator thinks that this agent needs next. */
export function onPrefetch(connection: Connection, agent: AgentId, handle: (hint: PrefetchHint) => void): Listening {
  return listen(connection, prefetchSubject(agent), (bytes) => {
    const decoded = decode(PrefetchHint, bytes);
    if (decoded.ok) handle(decoded.value);
  });
}

/** Makes the agent's consumer, or fits the one of a former boot to the slots of this one. @throws UnavailableError */
export async function openLane(connection: Connection, agent: AgentId, lane: Lane, slots: number): Promise<void> {
  const name = laneConsumer(lane, agent);
  const limits = { ack_wait: ackWaitMs * 1_000_000, max_ack_pending: slots };
  try {
    const { consumers } = await jetstreamManager(connection, { checkAPI: false, timeout: 1_000 });
    try {
      await consumers.add(streams.lanes, {
        durable_name: name,
        filter_subject: laneSubject(lane, agent),
        ack_policy: AckPolicy.Explicit,
        ...limits,
      });
    } catch (error) {
      if (!(error instanceof JetStreamApiError) || error.code !== consumerExists) throw error;
      await consumers.update(streams.lanes, name, limits);
    }
  } catch (error) {
    throw translate(error, `open the ${lane} lane of ${agent}`);
  }
}
