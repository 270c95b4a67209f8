/**
 * Who built what, as far as the farm answers for it. An open farm, which has no identity, asks nothing of anybody.
 *
 * 1. A build counts only with a statement of the agent that reports it, about this attempt and what it was asked to build.
 * 2. The farm vouches for a builder at each flash anew, so that one which was revoked since flashes nothing more.
 */
import type { KeyHolder } from "#actor/coordinator-ports.ts";
import type { Log } from "#actor/log.ts";
import { digestOfManifest, digestOfSpec, readStatement } from "#actor/provenance.ts";
import type { AdminAnswer, ChainRequest } from "#protocol/admin.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { describeFault, type ProvenanceFault } from "#protocol/failure.ts";
import type { ChainId } from "#protocol/ids.ts";
import type { BuilderStanding, BuilderWord, Statement } from "#protocol/provenance.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import type { Registry } from "#coordinator/registry.ts";

type Reported = Extract<FarmEvent, { readonly kind: "job-reported" }>;

export class BuilderDesk {
  readonly #identity: Pick<KeyHolder, "vouch"> | undefined;
  readonly #registry: Pick<Registry, "builderStanding">;
  readonly #log: Log;

  constructor(identity: Pick<KeyHolder, "vouch"> | undefined, registry: Pick<Registry, "builderStanding">, log: Log) {
    this.#identity = identity;
    this.#registry = registry;
    this.#log = log;
  }

  /** Invariant 1: a reported build without such a statement is a failed build; every other event is as it was. */
  checked(farm: Farm, event: FarmEvent): FarmEvent {
    if (this.#identity === undefined || event.kind !== "job-reported" || event.result.kind !== "built") return event;
    const fault = this.#faultOfReport(farm, event, event.result.manifest);
    if (fault === undefined) return event;
    const { agent, chain } = event;
    this.#log.warn({ agent, chain, fault }, "a build is not taken: who made it is not proven");
    return { ...event, result: { kind: "failed", failure: { kind: "provenance-refused", fault, agent } } };
  }

  #faultOfReport(farm: Farm, event: Reported, manifest: ArtifactManifest): ProvenanceFault | undefined {
    const compile = farm.chains.get(event.chain)?.compile;
    // Nobody waits for it: the core passes over it.
    if (compile === undefined) return undefined;
    const read = readStatement(manifest);
    if (!read.ok) return read.fault;
    const { statement } = read;
    const isOfJob =
      event.job === "compile" &&
      statement.agent === event.agent &&
      statement.chain === event.chain &&
      statement.attempt === event.attempt &&
      statement.configuration === farm.chains.get(event.chain)?.configuration &&
      statement.driver === compile.spec.driver &&
      statement.bundle === compile.spec.bundle &&
      statement.spec === digestOfSpec(compile.spec);
    return isOfJob ? this.#faultOfBuilder(statement) : "other-job";
  }

  /** Why an artifact that somebody wants to have flashed would not be; undefined when nothing is known against it. */
  faultOf(manifest: ArtifactManifest): ProvenanceFault | undefined {
    if (this.#identity === undefined) return undefined;
    const read = readStatement(manifest);
    return read.ok ? this.#faultOfBuilder(read.statement) : read.fault;
  }

  /** What would only fail when it is to be flashed is refused at once. */
  refusalOf(chains: readonly ChainRequest[]): AdminAnswer | undefined {
    for (const { configuration, upload } of chains) {
      const fault = upload?.manifest === undefined ? undefined : this.faultOf(upload.manifest);
      if (fault === undefined) continue;
      return { kind: "refused", code: "provenance", message: `${configuration}: ${describeFault(fault)}` };
    }
    return undefined;
  }

  /** Invariant 2. @returns undefined in an open farm */
  wordFor(manifest: ArtifactManifest, chain: ChainId, attempt: number): BuilderWord | undefined {
    if (this.#identity === undefined) return undefined;
    const read = readStatement(manifest);
    if (!read.ok) return { fault: read.fault };
    const fault = this.#faultOfBuilder(read.statement);
    if (fault !== undefined) return { fault };
    const { agent, user } = read.statement;
    return { vouch: this.#identity.vouch({ agent, user, manifest: digestOfManifest(manifest), chain, attempt }) };
  }

  #faultOfBuilder({ agent, user }: Statement): ProvenanceFault | undefined {
    return faultOfStanding[this.#registry.builderStanding(agent, user)];
  }
}

/** What was built before an agent got new keys is as good as it was. */
const faultOfStanding: Readonly<Record<BuilderStanding, ProvenanceFault | undefined>> = {
  paired: undefined,
  former: undefined,
  revoked: "revoked-builder",
  unknown: "unknown-builder",
};
