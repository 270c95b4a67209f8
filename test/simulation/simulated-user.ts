/** Somebody who asks for chains and cancels them, and repeats each request until it is answered. */
import type { AdminAnswer, AdminRequest, ChainRequest } from "#protocol/admin.ts";
import { type ChainId, type Configuration, type JobName, jobRef } from "#protocol/ids.ts";
import { adminSubject } from "#protocol/names.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

export class SimulatedUser {
  readonly #world: SimulatedWorld;
  #open = 0;

  constructor(world: SimulatedWorld) {
    this.#world = world;
  }

  /** Requests that have not been answered. */
  get openRequests(): number {
    return this.#open;
  }

  submit(chains: readonly ChainRequest[]): void {
    this.#world.trace(
      `submit ${chains.map(({ id, kind, configuration }) => `${id} (${kind} ${configuration})`).join(", ")}`,
    );
    const ids = chains.map(({ id }) => id);
    this.#world.watcher.asked(ids);
    this.#askUntilAnswered({ v: 1, kind: "submit", chains: [...chains] }, ids);
  }

  /** @param job left out: the whole chain */
  cancel(chain: ChainId, job?: JobName): void {
    const reference = job === undefined ? chain : jobRef(chain, job);
    this.#world.trace(`cancel ${reference}`);
    this.#askUntilAnswered({ v: 1, kind: "cancel", of: { reference } }, [chain]);
  }

  /** Takes the build trees of a configuration away; of all of them when it is left out. */
  clean(id: ChainId, configuration?: Configuration): void {
    this.#world.trace(configuration === undefined ? `reset ${id}` : `clean ${id} (${configuration})`);
    this.#askUntilAnswered(
      configuration === undefined ? { v: 1, kind: "reset", id } : { v: 1, kind: "clean", id, configuration },
      [],
    );
  }

  #askUntilAnswered(message: AdminRequest, chains: readonly ChainId[]): void {
    const { server, time, random, watcher, trace } = this.#world;
    let isAnswered = false;
    this.#open += 1;
    const answered = (body: unknown) => {
      if (isAnswered) return;
      isAnswered = true;
      this.#open -= 1;
      trace(`the user hears ${(body as AdminAnswer).kind}`);
    };
    const given = (body: unknown) => watcher.answered(body as AdminAnswer, chains);
    const attempt = () => {
      if (isAnswered) return;
      server.subjects.ask("admin", { from: "user", subject: adminSubject, message, given, answered });
      time.after(random.between(1_000, 10_000), attempt);
    };
    attempt();
  }
}
