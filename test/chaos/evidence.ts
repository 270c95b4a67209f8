/**
 * Gathers what the judge looks at, past the farm's own processes: the committed records from the store, the sessions from the
 * proxies, the programs from the devices.
 */
import { Objm } from "@nats-io/obj";
import { Chain, isFinished } from "#protocol/chain.ts";
import type { ChainId, Digest } from "#protocol/ids.ts";
import { buckets, objectStores } from "#protocol/names.ts";
import { poll, systemClock } from "#actor/clock.ts";
import { Bucket } from "#bus/bucket.ts";
import { ChainStore } from "#bus/chain-store.ts";
import type { Connection } from "#bus/connection.ts";
import { ObjectStore } from "#bus/object-store.ts";
import type { Asked } from "#test/chaos/journal.ts";
import type { Evidence, JudgedDevice, JudgedRecord, JudgedRequest, JudgedSession } from "#test/chaos/judge.ts";
import { builtIdentity, type ImageIdentity } from "#test/chaos/numbered-images.ts";
import type { RealDevice } from "#test/support/real-device.ts";
import type { SessionRecord } from "#test/support/recording-proxy.ts";

/** Every chain of the farm, live or ended; one that is being archived is in both places and is the same there. */
export async function readRecords(connection: Connection): Promise<ReadonlyMap<ChainId, Chain>> {
  // The live ones first: a chain leaves them only when the history has it.
  const { chains: live } = await new ChainStore(connection).load();
  const ended = await new Bucket(connection, buckets.history, Chain).all();
  return new Map([...live, ...ended].map((chain) => [chain.id, chain]));
}

export interface Sources {
  readonly connection: Connection;
  readonly asked: readonly Asked[];
  readonly devices: readonly RealDevice[];
  /** Of the images that the user gave to the farm. */
  readonly identities: readonly ImageIdentity[];
}

export async function gather({ connection, asked, devices, identities }: Sources): Promise<Evidence> {
  const records = await readRecords(connection);
  const all = [...identities, ...(await builtIdentities(connection, new Set(identities.map(({ digest }) => digest))))];
  const chains = new Map(asked.map(({ number, chain }) => [number, chain]));
  const chainOf = (identity: ImageIdentity | undefined) =>
    identity === undefined ? undefined : chains.get(identity.number);
  const byMd5 = new Map(all.map((identity) => [identity.md5, chainOf(identity)]));
  const byDigest = new Map(all.map((identity) => [identity.digest as string, chainOf(identity)]));
  return {
    requests: asked.map((one) => judgedRequest(one, records.get(one.chain))),
    sessions: devices.flatMap((device) =>
      device.sessions().map((session) => judgedSession(device.name, session, byMd5.get(session.announcedMd5 ?? ""))),
    ),
    devices: await Promise.all(devices.map((device) => judgedDevice(device, byDigest))),
  };
}

function judgedRequest({ chain, device, isAccepted, stoppedAt }: Asked, record: Chain | undefined): JudgedRequest {
  return {
    chain,
    device,
    isAccepted,
    ...(stoppedAt === undefined ? {} : { stoppedAt }),
    ...(record?.upload === undefined ? {} : { record: judgedRecord(record, record.upload) }),
  };
}

function judgedRecord(chain: Chain, upload: NonNullable<Chain["upload"]>): JudgedRecord {
  const { state, outcome, flashClaim, endedAt } = upload;
  return {
    isFinished: isFinished(chain),
    upload: state,
    ...(outcome?.kind === "flashed" ? { level: outcome.level } : {}),
    ...(flashClaim === undefined || endedAt === undefined ? {} : { flashMs: endedAt - flashClaim.at }),
  };
}

function judgedSession(device: string, session: SessionRecord, chain: ChainId | undefined): JudgedSession {
  const endedAt = session.deviceClosedAt ?? session.closedAt;
  return {
    device,
    ...(chain === undefined ? {} : { chain }),
    dataBytes: session.dataBytes,
    isWhole: session.sizeSeen && session.dataBytes === session.announcedBytes,
    isCommitted: session.committed,
    ...(session.dataAt === undefined ? {} : { dataAt: session.dataAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
  };
}

/** By the program that the kernel runs for the device, which must hold the build time that the device reports. */
async function judgedDevice(
  device: RealDevice,
  byDigest: ReadonlyMap<string, ChainId | undefined>,
): Promise<JudgedDevice> {
  // Throws when the device does not answer, or reports what is not in its program.
  const isSure = await poll(systemClock, { everyMs: 500, withinMs: 10_000 }, () =>
    device.runs().then(
      () => true,
      () => undefined,
    ),
  );
  if (isSure !== true) await device.runs();
  const runs = byDigest.get(await device.flashDigest());
  return { name: device.name, ...(runs === undefined ? {} : { runs }) };
}

/** What the farm has built is known by the numbers in its images. */
async function builtIdentities(connection: Connection, known: ReadonlySet<Digest>): Promise<readonly ImageIdentity[]> {
  const store = await new Objm(connection).open(objectStores.artifacts);
  const artifacts = new ObjectStore(connection, objectStores.artifacts);
  const found: ImageIdentity[] = [];
  for (const { name } of await store.list()) {
    const digest = name as Digest;
    if (known.has(digest)) continue;
    const fetched = await artifacts.get(digest);
    const identity = fetched.ok ? builtIdentity(Buffer.from(fetched.bytes)) : undefined;
    if (identity !== undefined) found.push(identity);
  }
  return found;
}
