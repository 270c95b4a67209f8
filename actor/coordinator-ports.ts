/**
 * What the coordinator needs of the world. `bus/coordinator-ports.ts` gives it over NATS; the simulation over a server in memory.
 *
 * 1. Whatever is awaited here may be the last thing that the process does, or may take until after its successor has started.
 * 2. What throws UnavailableError may have happened or not.
 */
import type { DeviceRecord } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { AuditEntry } from "#protocol/audit.ts";
import type { Chain } from "#protocol/chain.ts";
import type { WireError } from "#protocol/errors.ts";
import type { AgentId, ChainId, Digest } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { Dispatch, PrefetchHint, Progress, StopOrder } from "#protocol/messages.ts";
import type { ObjectStoreName } from "#protocol/objects.ts";
import type { Invitation, PairedAgent, SealKey, UserKey } from "#protocol/pairing.ts";
import type { Vouch } from "#protocol/provenance.ts";
import type { AgentRecord, BuildRecord, DeviceNote, DurationRecord } from "#protocol/records.ts";
import type { AwaitedDevice, Sightings } from "#protocol/sighting.ts";

export interface LoadedChains {
  readonly chains: readonly Chain[];
  readonly lastSequence: number;
  /** Chains that were removed during the last `removedMs`. */
  readonly removed: readonly ChainId[];
  /** Records that cannot be decoded; they stay where they are, for a person to look at. */
  readonly damaged: readonly { readonly key: string; readonly error: WireError }[];
}

export type CommitResult =
  | { readonly ok: true; readonly lastSequence: number }
  | { readonly ok: false; readonly reason: "conflict"; readonly detail: string };

/** The live chains. A write lands only if nobody has written since the sequence that it expects, and a fence is a write. */
export interface ChainRecords {
  /** For how long a removed chain is remembered. */
  readonly removedMs: number;
  /** Every live chain and the sequence to fence with. @throws UnavailableError */
  load(): Promise<LoadedChains>;
  /** Afterwards nothing lands that was under way before, from whomever; it changes no chain. @throws UnavailableError */
  fence(expectedLastSequence: number): Promise<CommitResult>;
  /** Writes changed records (undefined removes one), all or none when `isAtomic`. @throws UnavailableError */
  commit(
    changes: ReadonlyMap<ChainId, Chain | undefined>,
    expectedLastSequence: number,
    isAtomic: boolean,
  ): Promise<CommitResult>;
}

/** Values by key, written without a fence; what cannot be decoded is passed over. */
export interface Shelf<T> {
  /** Each of the values is there or not, and putting them again does no harm. @throws UnavailableError */
  putAll(values: ReadonlyMap<string, T>): Promise<void>;
  /** @throws UnavailableError */
  get(key: string): Promise<T | undefined>;
  /** Every value, newest first. @throws UnavailableError */
  all(): Promise<readonly T[]>;
  /** Every value of the newest `limit` writes, newest first. @throws UnavailableError */
  newest(limit: number): Promise<readonly T[]>;
  /** Takes values away; one that is not there is no error. @throws UnavailableError */
  removeAll(keys: readonly string[]): Promise<void>;
}

/** A question that waits for its answer. */
export interface Call {
  readonly subject: string;
  readonly bytes: Uint8Array;
  /** Answers the caller; calling it after the caller has given up is harmless. */
  answer(body: unknown): void;
}

/** Something that goes on until it is told to stop. */
export interface Listening {
  stop(): void;
}

/** Bundles or artifacts by digest. */
export interface Objects {
  /** @throws UnavailableError */
  list(): Promise<readonly { readonly digest: Digest; readonly storedBytes: number; readonly at: number }[]>;
  /** One that is not there is no error. @throws UnavailableError */
  remove(digests: readonly Digest[]): Promise<void>;
}

/** What is done among objects on behalf of an agent. All of it throws UnavailableError, and UsageError for what it may not. */
export interface ObjectDoor {
  meta(digest: Digest): Promise<{ readonly text: string; readonly at: number; readonly sequence: number } | undefined>;
  subjects(filter: string): Promise<Record<string, number>>;
  writeMeta(owner: AgentId, digest: Digest, text: string): Promise<void>;
  purge(owner: AgentId, filter: string): Promise<void>;
}

/** What only a process can do that holds the farm's keys. */
export interface KeyHolder {
  /** By what whoever joins knows the farm (`bus/identity/authority.ts`). */
  readonly pin: string;
  /** Shows that this is the farm of the pin: `introductionText`, signed. */
  introduce(nonce: string): Promise<{ readonly authority: string; readonly seal: SealKey; readonly signature: string }>;
  /** Whether the owner of a key has signed a text. */
  hasSigned(user: UserKey, text: string, signature: string): boolean;
  /** A token with which the owner of the key is this agent. @param expiresAt ms since 1970 */
  sign(agent: AgentId, lane: Lane, user: UserKey, expiresAt: number): Promise<string>;
  /** To it is sealed what only the farm is to read. */
  readonly seal: SealKey;
  /** What was sealed to the farm; undefined when it was not, or for another purpose. */
  unseal(sealed: string, purpose: string): string | undefined;
  /** What the key of a stored content follows from, 32 bytes. */
  contentSecret(store: ObjectStoreName, digest: Digest): Uint8Array;
  /**
   * Tells the servers whose tokens are no good any more, all of them, each with those from before an instant (ms since 1970). Live
   * connections are cut. @throws UnavailableError
   */
  revoke(users: ReadonlyMap<UserKey, number>): Promise<void>;
  /** The farm's word for the builder of an artifact that is to be flashed. @returns a signature in base64url */
  vouch(vouch: Vouch): string;
}

export interface CoordinatorPorts {
  readonly records: ChainRecords;
  readonly history: Shelf<Chain>;
  readonly devices: Shelf<DeviceRecord>;
  readonly notes: Shelf<DeviceNote>;
  readonly agents: Shelf<AgentRecord>;
  readonly durations: Shelf<DurationRecord>;
  readonly builds: Shelf<BuildRecord>;
  readonly paired: Shelf<PairedAgent>;
  readonly invitations: Shelf<Invitation>;
  /** Absent in an open farm, where everybody may be everybody. */
  readonly identity?: KeyHolder;
  readonly bundles: Objects;
  readonly artifacts: Objects;
  readonly objectDoors: Readonly<Record<ObjectStoreName, ObjectDoor>>;
  /** Makes whatever of streams and buckets is missing. @throws UsageError for an unfit server, UnavailableError */
  prepare(): Promise<void>;
  /** Puts a job on its agent's lane; the same assignment twice is one message. @throws UnavailableError */
  dispatch(agent: AgentId, dispatch: Dispatch): Promise<void>;
  /** Makes ready what an agent pulls its lane by; `slots` jobs at most are delivered and not claimed. @throws UnavailableError */
  openLane(agent: AgentId, lane: Lane, slots: number): Promise<void>;
  /** Best effort. */
  prefetch(agent: AgentId, hint: PrefetchHint): void;
  /** False when the server knows that the agent's connection is gone; true also when nobody can say. */
  isConnected(agent: AgentId): Promise<boolean>;
  /** Takes the logs of these chains away. @throws UnavailableError */
  removeLogs(chains: readonly ChainId[]): Promise<void>;
  /** Best effort. */
  stop(agent: AgentId, order: StopOrder): void;
  /** Claims and reports of all agents, in order of arrival. */
  serveAsks(handle: (call: Call) => void): Listening;
  /** What agents ask of the objects. */
  serveObjects(handle: (call: Call) => void): Listening;
  serveAdmin(handle: (call: Call) => void): Listening;
  /** Writes down what somebody asks; it is on the disk when this resolves. Entries are stored in the order of the calls. @throws UnavailableError */
  audit(entry: AuditEntry): Promise<void>;
  /** Questions of machines that are no agents yet, and of agents whose tokens end. */
  servePairing(handle: (call: Call) => void): Listening;
  /** Progress of all jobs: the chain's id and job's name as they stand in the subject. */
  listenProgress(call: (chain: string, job: string, progress: Progress) => void): Listening;
  /** Devices that upload agents see; a hint that may be lost or be old. */
  onSightings(handle: (sightings: Sightings) => void): Listening;
  /** Tells all upload agents which devices jobs wait for, and that they wait for no others. Best effort: repeated each `repeatMs`. */
  publishAwaited(devices: readonly AwaitedDevice[]): void;
  /** Statements of agents, the present ones first, until the signal fires or the watch breaks. @throws UnavailableError */
  watchPresence(signal: AbortSignal, call: (announcement: Announcement) => void): Promise<void>;
  /** Calls back whenever the server is gone, until the connection is closed. */
  onDisconnect(call: () => void): Listening;
  /** Calls back after each reconnection, until the connection is closed. */
  onReconnect(call: () => void): Listening;
  isClosed(): boolean;
  /** Resolves when the server knows of everything that is served and listened to. */
  flush(): Promise<void>;
}
