/** Who takes part, in the order of the tables and of each round. */
import { homedir } from "node:os";
import { join } from "node:path";
import { once } from "#actor/service.ts";
import { resolveServerBinary, type ServerBinary } from "#bus/server-binary.ts";
import { BullmqRedis } from "#bench/bullmq-redis.ts";
import type { Contender } from "#bench/contender.ts";
import { Flashyard } from "#bench/flashyard.ts";
import { RawJetStream } from "#bench/raw-jetstream.ts";

export interface ContenderOptions {
  /** Path of a nats-server that the user names; otherwise one is found or obtained. */
  readonly natsServer: string | undefined;
  readonly onProgress: (line: string) => void;
}

/** The same nats-server for all who need one. */
export function contenders({ natsServer, onProgress }: ContenderOptions): readonly Contender[] {
  const binary: () => Promise<ServerBinary> = once(() =>
    resolveServerBinary({
      ...(natsServer === undefined ? {} : { explicitPath: natsServer }),
      cacheFolder: join(homedir(), ".cache", "flashyard"),
      onProgress,
    }),
  );
  return [new Flashyard(binary), new RawJetStream(binary), new BullmqRedis("flow"), new BullmqRedis("handler")];
}
