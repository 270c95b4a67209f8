/** Who waits for which answer. The core sees only a number. */
import type { AdminAnswer } from "#protocol/admin.ts";
import type { AskAnswer } from "#protocol/messages.ts";
import type { Call } from "#actor/coordinator-ports.ts";
import type { AnswerTo } from "#coordinator/core/events.ts";

/** Callers that are forgotten (the farm was rebuilt) time out and ask again; everything they ask is idempotent. */
export class Answers {
  readonly #waiting = new Map<AnswerTo, Call>();
  #next = 0;

  expect(call: Call): AnswerTo {
    this.#next += 1;
    this.#waiting.set(this.#next, call);
    return this.#next;
  }

  answer(to: AnswerTo, body: AskAnswer | AdminAnswer): void {
    this.#waiting.get(to)?.answer(body);
    this.#waiting.delete(to);
  }

  /** The question was not taken in. */
  forget(to: AnswerTo): void {
    this.#waiting.delete(to);
  }

  forgetAll(): void {
    this.#waiting.clear();
  }
}
