/** The lanes: the coordinator's publishing side, and the agent's pulling side. */
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { decode, encode } from "#protocol/envelope.ts";
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import { Dispatch, StopOrder } from "#protocol/messages.ts";
import { dispatchId, laneConsumer, laneSubject, stopSubject, streams } from "#protocol/names.ts";
import { systemClock } from "#actor/clock.ts";
import type { LaneSource } from "#actor/lane-worker.ts";
import type { Log } from "#actor/log.ts";
import { type Connection, onReconnect, translate } from "#bus/connection.ts";
import { listen } from "#bus/rpc.ts";

/** Delivered and not acknowledged for this long, e.g. to a process that died: delivered again, and dropped by the claim. */
const ackWaitMs = 10_000;

/** Puts a job on its agent's lane; the same assignment twice is one message. @throws UnavailableError */
export async function publishDispatch(connection: Connection, agent: AgentId, dispatch: Dispatch): Promise<void> {
  try {
    const msgID = dispatchId(dispatch.chain, dispatch.job, dispatch.attempt);
    await jetstream(connection).publish(laneSubject(dispatch.job, agent), encode(dispatch), { msgID, timeout: 3_000 });
  } catch (error) {
    throw translate(error, `dispatch to ${agent}`);
  }
}

/** Best effort: an order that is lost is given again at the agent's next statement. */
export function publishStop(connection: Connection, agent: AgentId, order: StopOrder): void {
  if (!connection.isClosed()) connection.publish(stopSubject(agent), encode(order));
}

/**
 * An agent's lane as `actor/lane-worker.ts` wants it. The lane's stream lives in the server's memory, so after every
 * reconnection, and when a pull ends for any reason, the consumer is made again.
 */
export function laneSource(connection: Connection, lane: Lane, agent: AgentId, slots: number, log: Log): LaneSource {
  return {
    async *pull(signal) {
      let restart: (() => void) | undefined;
      onReconnect(connection, () => restart?.());
      signal.addEventListener("abort", () => restart?.(), { once: true });
      while (!signal.aborted) {
        try {
          const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 1_000 });
          await manager.consumers.add(streams.lanes, {
            durable_name: laneConsumer(lane, agent),
            filter_subject: laneSubject(lane, agent),
            ack_policy: AckPolicy.Explicit,
            ack_wait: ackWaitMs * 1_000_000,
            max_ack_pending: slots,
          });
          const consumer = await jetstream(connection).consumers.get(streams.lanes, laneConsumer(lane, agent));
          const messages = await consumer.consume({ max_messages: slots, idle_heartbeat: 1_000 });
          restart = () => messages.stop();
          if (signal.aborted) messages.stop();
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
