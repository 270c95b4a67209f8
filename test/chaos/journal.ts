/**
 * What the user asked for and was told, with the instants at which the answers were in hand; and a trace of the whole run,
 * a line of JSON an event.
 */
import { appendFileSync } from "node:fs";
import type { AdminAnswer } from "#protocol/admin.ts";
import type { ChainId } from "#protocol/ids.ts";

export interface Asked {
  readonly chain: ChainId;
  /** In its image. */
  readonly number: number;
  readonly device: string;
  readonly kind: "install" | "upload";
  isAccepted: boolean;
  /** When the user was told that its upload is cancelled. */
  stoppedAt?: number;
}

export class Journal {
  readonly asked = new Map<ChainId, Asked>();
  /** Answers to cancels, and requests that nobody answered in time. */
  cancels = 0;
  unanswered = 0;
  readonly #file: string;
  readonly #startedAt = performance.now();

  constructor(file: string) {
    this.#file = file;
  }

  note(event: string, facts: object = {}): void {
    const line = { at: Date.now(), ms: Math.round(performance.now() - this.#startedAt), event, ...facts };
    appendFileSync(this.#file, `${JSON.stringify(line)}\n`);
  }

  ask(asked: readonly Asked[]): void {
    for (const one of asked) this.asked.set(one.chain, one);
    this.note("asked", { asked });
  }

  /** An answer counts from the moment in which it is in the user's hands. */
  answered(answer: AdminAnswer): void {
    this.note("answered", { answer });
    if (answer.kind === "accepted") {
      for (const chain of answer.chains) {
        const asked = this.asked.get(chain);
        if (asked !== undefined) asked.isAccepted = true;
      }
      for (const chain of answer.superseded) this.#stopped(chain);
    } else if (answer.kind === "cancelling") {
      this.cancels += 1;
      for (const { chain, jobs, tooLate } of answer.chains) {
        if (jobs.length > 0 && !tooLate.includes("upload")) this.#stopped(chain);
      }
    }
  }

  #stopped(chain: ChainId): void {
    const asked = this.asked.get(chain);
    if (asked !== undefined) asked.stoppedAt ??= Date.now();
  }
}
