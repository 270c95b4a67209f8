/** Who takes part, in the order of the tables and of each round. */
import type { ServerBinary } from "#bus/server-binary.ts";
import { BullmqRedis } from "#bench/bullmq-redis.ts";
import type { Contender } from "#bench/contender.ts";
import { Flashyard } from "#bench/flashyard.ts";
import { RawJetStream } from "#bench/raw-jetstream.ts";

/** @param binary the same nats-server for all who need one */
export function contenders(binary: () => Promise<ServerBinary>): readonly Contender[] {
  return [new Flashyard(binary), new RawJetStream(binary), new BullmqRedis("flow"), new BullmqRedis("handler")];
}
