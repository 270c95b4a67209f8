/** Requests on a subject: every process that serves it gets each of them, and the first answer counts. */
import type { Call, Listening } from "#actor/coordinator-ports.ts";
import { encode } from "#protocol/envelope.ts";
import type { SimulatedNetwork } from "#test/simulation/simulated-network.ts";

export type Subject = "asks" | "admin";

export interface Listener {
  /** Its end in the network. */
  readonly end: string;
  called(call: Call): void;
}

export interface Question {
  /** The asker's end in the network. */
  readonly from: string;
  readonly subject: string;
  readonly message: unknown;
  /** Called where the answer is given, in the moment in which it is. */
  readonly given?: (body: unknown) => void;
  /** Called when an answer has come back; perhaps more than once. */
  readonly answered: (body: unknown) => void;
}

export class SimulatedSubjects {
  readonly #network: SimulatedNetwork;
  readonly #listeners: Readonly<Record<Subject, Set<Listener>>> = { asks: new Set(), admin: new Set() };

  constructor(network: SimulatedNetwork) {
    this.#network = network;
  }

  listen(to: Subject, listener: Listener): Listening {
    this.#listeners[to].add(listener);
    return { stop: () => void this.#listeners[to].delete(listener) };
  }

  /** Whether a process serves the subject. */
  isServedBy(to: Subject, end: string): boolean {
    return [...this.#listeners[to]].some((listener) => listener.end === end);
  }

  /** The server notices that a process is dead. */
  forget(end: string): void {
    for (const listeners of Object.values(this.#listeners)) {
      for (const listener of listeners) if (listener.end === end) listeners.delete(listener);
    }
  }

  ask(to: Subject, { from, subject, message, given, answered }: Question): void {
    const bytes = encode(message);
    for (const listener of this.#listeners[to]) {
      const { end } = listener;
      const answer = (body: unknown) => {
        given?.(body);
        this.#network.send(end, from, () => answered(body));
      };
      this.#network.send(from, end, () => listener.called({ subject, bytes, answer }));
    }
  }
}
