/** An agent's lane at the simulated server, as `bus/lanes.ts` has it. */
import type { Delivery, LaneSource } from "#actor/lane-worker.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

/** @param process named as the agent */
export function simulatedLane({ server }: SimulatedWorld, process: SimulatedProcess, slots: number): LaneSource {
  return {
    async *pull(signal) {
      const waiting: Delivery[] = [];
      let wake: (() => void) | undefined;
      signal.addEventListener("abort", () => wake?.());
      server.consume(process.name, slots, (dispatch, done) => {
        process.deliver(() => {
          waiting.push({ dispatch, done });
          wake?.();
        });
      });
      while (!signal.aborted) {
        const next = waiting.shift();
        if (next !== undefined) yield next;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    },
    onStop: (handle) => {
      let isOver = false;
      server.orders.set(process.name, (order) =>
        process.deliver(() => {
          if (!isOver) handle(order);
        }),
      );
      return {
        stop: () => {
          isOver = true;
        },
      };
    },
  };
}
