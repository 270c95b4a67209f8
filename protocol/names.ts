/**
 * Every subject, stream, consumer and bucket of the farm. Built and parsed here and nowhere else. Names that users choose
 * (configurations) never become subject tokens; agents and chains have names that are safe as one token by their schemas.
 */
import { AgentId, type ChainId, type Configuration, type Digest, JobName } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";

export const streams = { lanes: "FY_LANES", logs: "FY_LOGS", audit: "FY_AUDIT" } as const;

export const buckets = {
  chains: "fy_chains",
  history: "fy_history",
  devices: "fy_devices",
  notes: "fy_notes",
  agents: "fy_agents",
  durations: "fy_durations",
  builds: "fy_builds",
  /** Who has been paired with the farm. */
  paired: "fy_paired",
  /** Codes that machines may join with. */
  invitations: "fy_invitations",
  presence: "fy_presence",
  lease: "fy_lease",
} as const;

export const objectStores = { bundles: "fy_bundles", artifacts: "fy_artifacts" } as const;

/** A key-value bucket is a stream of this name over the subjects `$KV.<bucket>.>` (NATS ADR-8). */
export function bucketStream(bucket: string): string {
  return `KV_${bucket}`;
}

/** Written into the bucket of the chains by whoever takes them over; no chain has this id. */
export const fenceKey = "fence";

export function keySubject(bucket: string, key: string): string {
  return `$KV.${bucket}.${key}`;
}

/** Jobs addressed to one agent; one lane is one subject space. */
export function laneSubject(lane: Lane, agent: AgentId): string {
  return `fy.${lane}.${agent}`;
}

export const laneSubjects = ["fy.compile.*", "fy.upload.*"] as const;

/** The durable consumer by which an agent pulls its lane. */
export function laneConsumer(lane: Lane, agent: AgentId): string {
  return `${lane}-${agent}`;
}

/** Message id of a dispatch: the same assignment published twice is one message. */
export function dispatchId(chain: ChainId, job: JobName, attempt: number): string {
  return `${chain}.${job}.${attempt}`;
}

/** Claims and reports of an agent: requests that the active coordinator answers after its commit. */
export function askSubject(agent: AgentId): string {
  return `fy.ask.${agent}`;
}
export const askSubjects = "fy.ask.*";

/** What an agent asks of the store of objects: the coordinator knows which of them are its business. */
export function objectSubject(agent: AgentId): string {
  return `fy.object.${agent}`;
}
export const objectSubjects = "fy.object.*";

/** Stop orders to an agent. */
export function stopSubject(agent: AgentId): string {
  return `fy.stop.${agent}`;
}

export const stopSubjects = "fy.stop.*";

/** What an agent may fetch ahead. */
export function prefetchSubject(agent: AgentId): string {
  return `fy.prefetch.${agent}`;
}
export const prefetchSubjects = "fy.prefetch.*";

/** Devices that an upload agent has seen, never stored. */
export function sightingSubject(agent: AgentId): string {
  return `fy.sighting.${agent}`;
}
export const sightingSubjects = "fy.sighting.*";

/** Devices that jobs wait for, to all upload agents; never stored. */
export const awaitedSubject = "fy.awaited";

/** Wishes to read a port of an upload agent, never stored; the answers go to the reader's inbox. */
export function serialSubject(agent: AgentId): string {
  return `fy.serial.${agent}`;
}
export const serialSubjects = "fy.serial.*";

/** Progress of a job as its agent tells it, never stored. */
export function progressSubject(agent: AgentId, chain: ChainId, job: JobName): string {
  return `fy.progress.${agent}.${chain}.${job}`;
}
export const progressSubjects = "fy.progress.>";
/** All that an agent, or with `*` any of them, may tell. */
export function progressSubjectsBy(agent: AgentId | "*"): string {
  return `fy.progress.${agent}.*.*`;
}

/** Log chunks of a job, from one of the agents that had it. */
export function logSubject(agent: AgentId, chain: ChainId, job: JobName): string {
  return `fy.log.${agent}.${chain}.${job}`;
}
/** The logs of a chain's job, or of all of them, by whatever agent; also those of version 0.1, which did not name it. */
export function logSubjectsOf(chain: ChainId, job: JobName | "*" = "*"): readonly [string, string] {
  return [`fy.log.*.${chain}.${job}`, `fy.log.${chain}.${job}`];
}

/** All that an agent, or with `*` any of them, may write. */
export function logSubjectsBy(agent: AgentId | "*"): string {
  return `fy.log.${agent}.*.*`;
}

/** The job of a log's subject. */
export function jobOfLog(subject: string): JobName | undefined {
  return JobName.safeParse(subject.split(".").at(-1)).data;
}
export const logSubjects = "fy.log.>";

/** Requests of people in an open farm, where nobody signs in. */
export const adminSubject = "fy.admin";

/** Requests of one who has signed in: nobody else may publish there. */
export function adminSubjectOf(name: string): string {
  return `${adminSubject}.${name}`;
}
export const adminSubjects = `${adminSubject}.*`;

/** Who has asked on a subject; undefined in an open farm. */
export function nameOfAdmin(subject: string): string | undefined {
  return subject.startsWith(`${adminSubject}.`) ? subject.slice(adminSubject.length + 1) : undefined;
}

/** What people have asked the farm to change, one message a request. */
export const auditSubject = "fy.audit";

/** Whoever wants to become an agent, and agents whose right to connect runs out. */
export const pairSubject = "fy.pair";

/** The only key of the lease's bucket. */
export const leaseKey = "coordinator";

export function presenceKey(agent: AgentId): string {
  return agent;
}

/** Where a paired agent's record lies, */
export function pairedKey(agent: AgentId): string {
  return agent;
}
/** and once more when it has been revoked. */
export function revokedKey(agent: AgentId): string {
  return `revoked.${agent}`;
}

/** The agent of an ask subject, or undefined when the token is not an agent's name. */
export function agentOfAsk(subject: string): AgentId | undefined {
  return agentOf(subject);
}

/** The agent of a question about objects, or undefined when the token is not an agent's name. */
export function agentOfObject(subject: string): AgentId | undefined {
  return agentOf(subject);
}

/** The agent of a sighting's subject, or undefined when the token is not an agent's name. */
export function agentOfSighting(subject: string): AgentId | undefined {
  return agentOf(subject);
}

/** The agent of a statement's subject, or undefined when the key is not an agent's name. */
export function agentOfPresence(subject: string): AgentId | undefined {
  return agentOf(subject);
}

function agentOf(subject: string): AgentId | undefined {
  const parsed = AgentId.safeParse(subject.split(".")[2]);
  return parsed.success ? parsed.data : undefined;
}

/** Configurations are free text; their key in a bucket is the text in unpadded base64url. */
export function configurationKey(configuration: Configuration): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(configuration)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

export function objectName(digest: Digest): string {
  return digest;
}
