/** Somebody who asks for chains, cancels them and looks at devices, and repeats each request until it is answered. */
import type { AdminAnswer, AdminRequest, ChainRequest } from "#protocol/admin.ts";
import { type ChainId, type Configuration, type JobName, jobRef } from "#protocol/ids.ts";
import { adminSubject } from "#protocol/names.ts";
import type { RolloutAction } from "#protocol/rollout.ts";
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

  /** Everything that is under way for a configuration, or at all. */
  cancelAll(configuration?: Configuration): void {
    this.#world.trace(`cancel ${configuration ?? "everything"}`);
    const of = configuration === undefined ? { all: true as const } : { reference: configuration };
    this.#askUntilAnswered({ v: 1, kind: "cancel", of }, []);
  }

  /** Says what an upload of which nobody knew has left on its device. */
  resolve(chain: ChainId, isRunning: boolean): void {
    this.#world.trace(`resolve ${chain}: ${isRunning ? "it runs" : "it does not run"}`);
    const given = (answer: AdminAnswer) => this.#world.watcher.settled(chain, isRunning, answer);
    this.#askUntilAnswered({ v: 1, kind: "resolve-device", reference: chain, isRunning }, [], given);
  }

  changeRollout(id: ChainId, action: RolloutAction): void {
    this.#world.trace(`${action} rollout ${id}`);
    this.#askUntilAnswered({ v: 1, kind: "change-rollout", id, action }, []);
  }

  /** Takes the build trees of a configuration away; of all of them when it is left out. */
  clean(id: ChainId, configuration?: Configuration): void {
    this.#world.trace(configuration === undefined ? `reset ${id}` : `clean ${id} (${configuration})`);
    this.#askUntilAnswered(
      configuration === undefined ? { v: 1, kind: "reset", id } : { v: 1, kind: "clean", id, configuration },
      [],
    );
  }

  #askUntilAnswered(
    message: AdminRequest,
    chains: readonly ChainId[],
    given = (answer: AdminAnswer) => this.#world.watcher.answered(answer, chains),
  ): void {
    const { server, time, random, trace } = this.#world;
    let isAnswered = false;
    this.#open += 1;
    const answered = (body: unknown) => {
      if (isAnswered) return;
      isAnswered = true;
      this.#open -= 1;
      trace(`the user hears ${(body as AdminAnswer).kind}`);
    };
    const attempt = () => {
      if (isAnswered) return;
      server.subjects.ask("admin", {
        from: "user",
        subject: adminSubject,
        message,
        given: (body) => given(body as AdminAnswer),
        answered,
      });
      time.after(random.between(1_000, 10_000), attempt);
    };
    attempt();
  }
}
