/**
 * Who may publish and subscribe to what. Nothing is allowed that is not named here.
 *
 * 1. The state of the farm lies in the account FARM, in which only coordinators and people sign in. Agents sign in to EDGE, which has no
 *    storage of its own and reaches of FARM what `farmServices` names: a reply subject that an agent chooses does not lead there.
 * 2. An agent speaks under its own name only: its name is a token of every subject that it may publish to, or the key of its consumer.
 */
import type { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import {
  adminSubjectOf,
  askSubject,
  askSubjects,
  awaitedSubject,
  buckets,
  bucketStream,
  keySubject,
  laneConsumer,
  logSubjectsBy,
  objectStores,
  objectSubject,
  objectSubjects,
  pairSubject,
  prefetchSubject,
  prefetchSubjects,
  presenceKey,
  progressSubjects,
  progressSubjectsBy,
  serialSubject,
  serialSubjects,
  sightingSubject,
  sightingSubjects,
  stopSubject,
  stopSubjects,
  streams,
} from "#protocol/names.ts";
import { streamOf } from "#bus/object-layout.ts";

/** Where agents find JetStream's requests of the account FARM. The account's own prefix is taken, also without storage. */
export const edgeApiPrefix = "FARMJS";

export type FarmRole =
  | { readonly kind: "coordinator" }
  | { readonly kind: "admin"; readonly name: string }
  | { readonly kind: "agent"; readonly agent: AgentId; readonly lane: Lane }
  /** Whoever has not signed in. */
  | { readonly kind: "stranger" };

export interface Permissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
  /** May answer what it was asked, whatever the reply's subject: so often, and for so long (ms). */
  readonly respond?: { readonly max: number; readonly ms: number };
}

/** Where the answers to a role's questions arrive; nobody else may listen there. */
export function inboxOf(role: FarmRole): string {
  switch (role.kind) {
    case "coordinator":
      return "_INBOX_coordinator";
    case "admin":
      return `_INBOX_admin_${role.name}`;
    case "agent":
      return `_INBOX_${role.lane}_${role.agent}`;
    case "stranger":
      return "_INBOX_stranger";
  }
}

/** As whom a role makes requests of people; nobody else may. No person can be called as a coordinator is. */
export function nameInRequests(role: FarmRole): string | undefined {
  switch (role.kind) {
    case "coordinator":
      return "COORDINATOR";
    case "admin":
      return role.name;
    case "agent":
    case "stranger":
      return undefined;
  }
}

const bundles = streamOf(objectStores.bundles);
const artifacts = streamOf(objectStores.artifacts);
const chains = bucketStream(buckets.chains);

/** How long somebody may answer a wish to read a port: as long as a wish holds, and a bit. */
const answerMs = 20_000;

export function permissionsOf(role: FarmRole): Permissions {
  const inbox = `${inboxOf(role)}.>`;
  switch (role.kind) {
    case "coordinator":
      return {
        // The only one who writes the state. What it asks of agents and says to them, and whatever JetStream does.
        publish: [">"],
        subscribe: [">"],
      };
    case "admin":
      return {
        publish: [
          adminSubjectOf(role.name),
          serialSubjects,
          "$JS.API.INFO",
          // Live chains, logs, the audit and objects are read; of what is stored, only contents are written.
          `$JS.API.STREAM.INFO.${chains}`,
          `$JS.API.CONSUMER.CREATE.${chains}.>`,
          `$JS.API.CONSUMER.INFO.${chains}.*`,
          `$JS.API.CONSUMER.DELETE.${chains}.*`,
          `$JS.API.CONSUMER.MSG.NEXT.${chains}.*`,
          `$JS.API.DIRECT.GET.${chains}.>`,
          ...[streams.logs, streams.audit].flatMap((stream) => [
            `$JS.API.STREAM.INFO.${stream}`,
            // They are read to the end that their stream's leader knows.
            `$JS.API.STREAM.MSG.GET.${stream}`,
            // Without more behind it where several jobs are read at once.
            `$JS.API.CONSUMER.CREATE.${stream}`,
            `$JS.API.CONSUMER.CREATE.${stream}.>`,
            `$JS.API.CONSUMER.INFO.${stream}.*`,
            `$JS.API.CONSUMER.DELETE.${stream}.*`,
            `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
          ]),
          ...[bundles, artifacts].flatMap((stream) => [
            `$JS.API.STREAM.INFO.${stream}`,
            `$JS.API.STREAM.MSG.GET.${stream}`,
            `$JS.API.STREAM.PURGE.${stream}`,
            `$JS.API.DIRECT.GET.${stream}`,
            `$JS.API.DIRECT.GET.${stream}.>`,
            `$JS.API.CONSUMER.CREATE.${stream}.>`,
            `$JS.API.CONSUMER.INFO.${stream}.*`,
            `$JS.API.CONSUMER.DELETE.${stream}.*`,
            `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
          ]),
          ...Object.values(objectStores).map((store) => `$O.${store}.>`),
          "$JS.FC.>",
        ],
        subscribe: [inbox, progressSubjects],
      };
    case "agent":
      return agentPermissions(role.agent, role.lane, inbox);
    case "stranger":
      return { publish: [pairSubject], subscribe: [inbox] };
  }
}

function agentPermissions(agent: AgentId, lane: Lane, inbox: string): Permissions {
  const consumer = laneConsumer(lane, agent);
  const publish = [
    askSubject(agent),
    objectSubject(agent),
    pairSubject,
    keySubject(buckets.presence, presenceKey(agent)),
    progressSubjectsBy(agent),
    logSubjectsBy(agent),
    `${edgeApiPrefix}.CONSUMER.INFO.${streams.lanes}.${consumer}`,
    `${edgeApiPrefix}.CONSUMER.MSG.NEXT.${streams.lanes}.${consumer}`,
    `$JS.ACK.${streams.lanes}.${consumer}.>`,
  ];
  const subscribe = [inbox, stopSubject(agent), prefetchSubject(agent)];
  switch (lane) {
    case "compile":
      return {
        publish: [...publish, `${edgeApiPrefix}.DIRECT.GET.${bundles}.>`, `$O.${objectStores.artifacts}.C.${agent}.>`],
        subscribe,
      };
    case "upload":
      return {
        publish: [...publish, sightingSubject(agent), `${edgeApiPrefix}.DIRECT.GET.${artifacts}.>`],
        subscribe: [...subscribe, awaitedSubject, serialSubject(agent)],
        respond: { max: -1, ms: answerMs },
      };
  }
}

/** What FARM offers to EDGE: a subject of FARM, and the one by which EDGE knows it where that differs. */
export interface FarmService {
  readonly name: string;
  readonly subject: string;
  readonly edgeSubject?: string;
  /** Several answers to one question. */
  readonly isStream?: boolean;
}

function api(verb: string): Pick<FarmService, "subject" | "edgeSubject"> {
  return { subject: `$JS.API.${verb}`, edgeSubject: `${edgeApiPrefix}.${verb}` };
}

export const farmServices: readonly FarmService[] = [
  { name: "asks", subject: askSubjects },
  { name: "objects", subject: objectSubjects },
  { name: "pairing", subject: pairSubject },
  { name: "presence", subject: keySubject(buckets.presence, "*") },
  { name: "progress", subject: progressSubjectsBy("*") },
  { name: "logs", subject: logSubjectsBy("*") },
  { name: "sightings", subject: sightingSubjects },
  { name: "lane-info", ...api(`CONSUMER.INFO.${streams.lanes}.*`) },
  { name: "lane-next", ...api(`CONSUMER.MSG.NEXT.${streams.lanes}.*`), isStream: true },
  { name: "lane-ack", subject: `$JS.ACK.${streams.lanes}.>` },
  { name: "bundle-pieces", ...api(`DIRECT.GET.${bundles}.>`) },
  { name: "artifact-pieces", ...api(`DIRECT.GET.${artifacts}.>`) },
  { name: "artifact-store", subject: `$O.${objectStores.artifacts}.C.>` },
];

/** What FARM says to agents. */
export const farmMessages: readonly string[] = [stopSubjects, prefetchSubjects, awaitedSubject];

/** What agents answer to people. */
export const edgeServices: readonly FarmService[] = [{ name: "serial-logs", subject: serialSubjects, isStream: true }];
