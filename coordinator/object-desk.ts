/**
 * Answers what agents ask of the store of objects, within what is their business.
 *
 * 1. An agent learns where a content lies, and by which key it is sealed, when a job that it has in hand needs it, or when it was told that it may need it next.
 */
import type { Call, CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import { seal } from "#actor/sealing.ts";
import type { AdminAnswer } from "#protocol/admin.ts";
import { decode } from "#protocol/envelope.ts";
import { isFarmError, UnavailableError } from "#protocol/errors.ts";
import type { AgentId, Digest } from "#protocol/ids.ts";
import type { PrefetchHint } from "#protocol/messages.ts";
import { agentOfObject } from "#protocol/names.ts";
import { contentContext, type ObjectAnswer, ObjectAsk, type ObjectStoreName } from "#protocol/objects.ts";
import type { SealKey } from "#protocol/pairing.ts";
import { isInBusinessOf } from "#coordinator/core/entitlement.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { openFarm } from "#coordinator/registry.ts";

/** A hint replaces the one before, which the agent may just be following. */
const hintsKept = 2;

type DeskPorts = Pick<CoordinatorPorts, "serveObjects" | "objectDoors" | "identity">;

export class ObjectDesk {
  readonly #ports: DeskPorts;
  readonly #farm: () => Farm;
  readonly #sealKeyOf: (agent: AgentId) => SealKey | undefined;
  readonly #log: Log;
  readonly #hints = new Map<AgentId, readonly ReadonlySet<Digest>[]>();

  constructor(ports: DeskPorts, farm: () => Farm, sealKeyOf: (agent: AgentId) => SealKey | undefined, log: Log) {
    this.#sealKeyOf = sealKeyOf;
    this.#ports = ports;
    this.#farm = farm;
    this.#log = log;
  }

  /** Called with each hint that an agent is given. */
  hinted(agent: AgentId, hint: PrefetchHint): void {
    const digests = new Set("bundle" in hint ? [hint.bundle] : hint.images.map(({ digest }) => digest));
    this.#hints.set(agent, [digests, ...(this.#hints.get(agent) ?? [])].slice(0, hintsKept));
  }

  /** For a person, who may read and store any content. */
  secretOf(store: ObjectStoreName, digest: Digest): AdminAnswer {
    const secret = this.#ports.identity?.contentSecret(store, digest);
    if (secret === undefined) return openFarm;
    return { kind: "content-secret", secret: Buffer.from(secret).toString("base64") };
  }

  listen(): Listening {
    return this.#ports.serveObjects((call) => void this.#serve(call));
  }

  async #serve(call: Call): Promise<void> {
    const agent = agentOfObject(call.subject);
    const decoded = decode(ObjectAsk, call.bytes);
    if (agent === undefined || !decoded.ok) {
      this.#log.warn({ subject: call.subject }, "a question about objects cannot be decoded");
      return call.answer(refusal("the question cannot be decoded", false));
    }
    try {
      call.answer(await this.#answer(agent, decoded.value));
    } catch (error) {
      if (!isFarmError(error)) throw error;
      this.#log.warn({ agent, err: error }, "a question about objects is refused");
      call.answer(refusal(error.message, error instanceof UnavailableError));
    }
  }

  async #answer(agent: AgentId, ask: ObjectAsk): Promise<ObjectAnswer> {
    const door = this.#ports.objectDoors[ask.store];
    switch (ask.kind) {
      case "meta": {
        if (!this.#mayLook(agent, ask)) return refusal(`${ask.digest} is not the business of ${agent}`, true);
        const message = await door.meta(ask.digest);
        const secret = this.#secretFor(agent, ask);
        return {
          v: 1,
          kind: "meta",
          ...(message === undefined ? {} : { message }),
          ...(secret === undefined ? {} : { secret }),
        };
      }
      case "subjects":
        return { v: 1, kind: "subjects", subjects: await door.subjects(ask.filter) };
      case "write-meta":
        await door.writeMeta(agent, ask.digest, ask.text);
        return { v: 1, kind: "done" };
      case "purge":
        await door.purge(agent, ask.filter);
        return { v: 1, kind: "done" };
    }
  }

  /** Sealed to the agent: whoever carries the answer does not read it. @throws UnavailableError for an agent without a key */
  #secretFor(agent: AgentId, { store, digest }: Extract<ObjectAsk, { readonly kind: "meta" }>): string | undefined {
    const secret = this.#ports.identity?.contentSecret(store, digest);
    if (secret === undefined) return undefined;
    const key = this.#sealKeyOf(agent);
    if (key === undefined) throw new UnavailableError("not-paired", `${agent} is not paired with this farm`);
    return seal(key, Buffer.from(secret).toString("base64"), contentContext(digest));
  }

  #mayLook(agent: AgentId, { store, digest }: Extract<ObjectAsk, { readonly kind: "meta" }>): boolean {
    if (this.#hints.get(agent)?.some((hint) => hint.has(digest)) === true) return true;
    return isInBusinessOf(this.#farm(), agent, store, digest);
  }
}

/** What is refused now may be the agent's business a moment later: the commit that says so is on its way. */
function refusal(reason: string, isPassing: boolean): ObjectAnswer {
  return { v: 1, kind: "refused", reason, isPassing };
}
