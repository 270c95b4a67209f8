/**
 * Who has asked for what: written down before it is carried out.
 *
 * 1. Requests that change something are carried out in the order in which they arrived, each when its entry and those before it are
 *    on the disk. The entries themselves go out without waiting for each other.
 */
import type { AdminRequest } from "#protocol/admin.ts";
import type { AuditEntry } from "#protocol/audit.ts";

type Asked = Pick<AuditEntry, "chains" | "configurations" | "agent" | "detail">;

/** Who has asked, and when. */
type Asker = Pick<AuditEntry, "name" | "by" | "at">;

/** Pure. @returns undefined for a request that only reads */
export function auditEntryOf(request: AdminRequest, asker: Asker): AuditEntry | undefined {
  const asked = askedBy(request);
  return asked === undefined ? undefined : { v: 1, kind: request.kind, ...asker, ...asked };
}

function askedBy(request: AdminRequest): Asked | undefined {
  switch (request.kind) {
    case "submit": {
      const kinds = Map.groupBy(request.chains, ({ kind }) => kind);
      return {
        chains: request.chains.map(({ id }) => id),
        configurations: [
          ...new Set(
            request.chains.flatMap(({ configuration, renamedFrom }) => [configuration, renamedFrom ?? []].flat()),
          ),
        ],
        detail: [...kinds].map(([kind, { length }]) => `${length} ${kind}`).join(", "),
      };
    }
    case "cancel": {
      const of = "all" in request.of ? "all" : request.of.reference;
      return { detail: request.isForced === true ? `${of}, by force` : of };
    }
    case "clean":
      return { chains: [request.id], configurations: [request.configuration] };
    case "reset":
      return { chains: [request.id] };
    case "resolve-device":
      return { detail: `${request.reference} ${request.isRunning ? "runs" : "does not run"} its build` };
    case "enrol-agent":
      return { agent: request.agent, detail: `${request.lane} lane, key ${request.user}` };
    case "make-invitation": {
      const { agent, lane, isUnattended, validMs } = request;
      const detail = `${lane ?? "any"} lane, for ${validMs / 1_000} s${isUnattended ? ", without approval" : ""}`;
      return agent === undefined ? { detail } : { agent, detail };
    }
    case "decide-pairing":
      return { detail: `key ${request.user} ${request.isApproved ? "approved" : "rejected"}` };
    case "revoke-agent":
      return { agent: request.agent };
    case "agent-artifacts": {
      const { agent, isBlocked } = request;
      if (isBlocked === undefined) return undefined;
      return { agent, detail: isBlocked ? "its builds blocked" : "its builds no longer blocked" };
    }
    case "drain":
      return { agent: request.agent, detail: request.isDrained ? "drained" : "given work again" };
    case "prune-cache":
      return { detail: `from before ${dateOf(request.before)}` };
    case "hold-device": {
      const { configuration, isHeld, reason } = request;
      const held = isHeld ? "on hold" : "no longer on hold";
      return { configurations: [configuration], detail: reason === undefined ? held : `${held}: ${reason}` };
    }
    case "forget-device":
      return { configurations: [request.configuration] };
    case "change-rollout":
      return { chains: [request.id], detail: request.action };
    case "history":
    case "chains":
    case "resolve":
    case "agents":
    case "pairings":
    case "cache":
    case "content-secret":
    case "devices":
    case "rollouts":
    case "explain":
    case "newest-build":
    case "build-of-image":
    case "builder-key":
    case "last-good-build":
    case "status":
      return undefined;
  }
}

function dateOf(at: number): string {
  const isDate = Math.abs(at) <= 8.64e15;
  return isDate ? new Date(at).toISOString() : String(at);
}

export class Audit {
  readonly #write: (entry: AuditEntry) => Promise<void>;
  #written: Promise<unknown> = Promise.resolve();

  constructor(write: (entry: AuditEntry) => Promise<void>) {
    this.#write = write;
  }

  /** Invariant 1. @throws UnavailableError when the entry may not have been written */
  async note(entry: AuditEntry): Promise<void> {
    const before = this.#written;
    const writing = this.#write(entry);
    this.#written = Promise.allSettled([before, writing]);
    await before;
    await writing;
  }
}
