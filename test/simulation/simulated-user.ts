/** Somebody who asks for chains and cancels them, and repeats each request until it is answered. */
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import type { ChainId, JobName } from "#protocol/ids.ts";
import type { SimulatedWorld } from "#test/simulation/simulated-world.ts";

export interface AdminPort {
  submit(chains: readonly ChainRequest[], answer: (body: AdminAnswer) => void): void;
  cancel(chain: ChainId, jobs: readonly JobName[] | undefined, answer: (body: AdminAnswer) => void): void;
}

export class SimulatedUser {
  readonly #world: SimulatedWorld;
  readonly #coordinator: () => AdminPort | undefined;
  #open = 0;

  constructor(world: SimulatedWorld, coordinator: () => AdminPort | undefined) {
    this.#world = world;
    this.#coordinator = coordinator;
  }

  /** Requests that have not been answered. */
  get openRequests(): number {
    return this.#open;
  }

  submit(chains: readonly ChainRequest[]): void {
    this.#world.trace(
      `submit ${chains.map(({ id, kind, configuration }) => `${id} (${kind} ${configuration})`).join(", ")}`,
    );
    this.#askUntilAnswered((port, answer) => port.submit(chains, answer));
  }

  cancel(chain: ChainId, jobs?: readonly JobName[]): void {
    this.#world.trace(`cancel ${chain} ${jobs?.join(" ") ?? ""}`);
    this.#askUntilAnswered((port, answer) => port.cancel(chain, jobs, answer));
  }

  #askUntilAnswered(ask: (port: AdminPort, answer: (body: AdminAnswer) => void) => void): void {
    const { network, time, random } = this.#world;
    let isAnswered = false;
    this.#open += 1;
    const attempt = () => {
      if (isAnswered) return;
      network.send("user", "coordinator", () => {
        const port = this.#coordinator();
        if (port === undefined) return;
        ask(port, (body) => {
          network.send("coordinator", "user", () => {
            if (isAnswered) return;
            isAnswered = true;
            this.#open -= 1;
            this.#world.trace(`the user hears ${body.kind}`);
          });
        });
      });
      time.after(random.between(1_000, 10_000), attempt);
    };
    attempt();
  }
}
