/** Answers the CLI. Requests that change the farm become events; questions are answered from the farm as committed. */
import {
  type AdminAnswer,
  type AdminRequest,
  type ChainRequest,
  type ChainView,
  StatedRequest,
} from "#protocol/admin.ts";
import { type Chain, configurationsOf, jobsOf, withoutSecrets } from "#protocol/chain.ts";
import { decode } from "#protocol/envelope.ts";
import { messageOf } from "#protocol/errors.ts";
import { type AgentId, ChainId, JobName, jobRef } from "#protocol/ids.ts";
import { isTerminal } from "#protocol/job.ts";
import { askBytesMax } from "#protocol/limits.ts";
import { nameOfAdmin } from "#protocol/names.ts";
import type { Progress } from "#protocol/messages.ts";
import { farmVersion } from "#protocol/version.ts";
import type { Call, CoordinatorPorts, Listening } from "#actor/coordinator-ports.ts";
import type { Answers } from "#coordinator/answers.ts";
import { type Audit, auditEntryOf } from "#coordinator/audit.ts";
import type { BuilderDesk } from "#coordinator/builder-desk.ts";
import type { Pruned } from "#coordinator/cache.ts";
import type { CancelTarget, FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { explain } from "#coordinator/core/explain.ts";
import { agentViews, findChain, newestBuild, newestWithImage, queueDepth } from "#coordinator/core/queries.ts";
import { rolloutView } from "#coordinator/core/rollouts.ts";
import { devicesAnswer, forgetDevice, holdDevice, lastGoodAnswer } from "#coordinator/device-answers.ts";
import type { Interpreter } from "#coordinator/interpreter.ts";
import type { Twins } from "#coordinator/sightings.ts";
import type { Memory } from "#coordinator/memory.ts";
import type { ObjectDesk } from "#coordinator/object-desk.ts";
import { agentArtifacts } from "#coordinator/agent-artifacts.ts";
import type { Registry } from "#coordinator/registry.ts";
import type { PairingDesk } from "#coordinator/pairing-desk.ts";

export interface AdminPorts {
  readonly answers: Answers;
  readonly interpreter: Interpreter;
  readonly memory: Memory;
  readonly registry: Registry;
  readonly pairing: Pick<PairingDesk, "answer">;
  readonly builders: BuilderDesk;
  readonly audit: Audit;
  readonly desk: ObjectDesk;
  /** A request as its record is to hold it. */
  readonly keep: (request: ChainRequest) => ChainRequest;
  /** @throws UnavailableError */
  pruneCache(before: number): Promise<Pruned>;
  readonly startedAt: number;
  farm(): Farm;
  /** Resolves when `farm` knows of every record that was under way. */
  settled(): Promise<void>;
  now(): number;
  isLeading(): boolean;
  post(event: FarmEvent): boolean;
  progressOf(reference: string): Progress | undefined;
  twins(): readonly Twins[];
  /** Whether the chain was accepted before; a request repeated within ten minutes is told. */
  isKnown(chain: ChainId): boolean;
}

/** Characters of the chains in one answer: half of what a message may hold, for those that UTF-8 makes longer. */
const chainsBytesMax = 4 * 1024 * 1024;

const jobSuffix = new RegExp(`\\.(${JobName.options.join("|")})$`);

/** How far back a reference to a finished chain is looked for. */
const lookBackMax = 5_000;

export function serveAdmin(world: Pick<CoordinatorPorts, "serveAdmin">, ports: AdminPorts): Listening {
  return world.serveAdmin((call) => {
    // Another coordinator may have changed what this one knows, and answers.
    if (!ports.isLeading()) return;
    const decoded = decode(StatedRequest, call.bytes);
    if (!decoded.ok) {
      call.answer({
        kind: "refused",
        code: "not-understood",
        message: `the request is invalid: ${decoded.error.message}`,
      });
      return;
    }
    answerWhenSettled(ports, decoded.value, call).catch((error: unknown) => {
      call.answer({ kind: "refused", code: "unavailable", message: messageOf(error) });
    });
  });
}

/**
 * A change is written down first, and refused where that fails. Then: who asks may have seen a record that is written already, and
 * would be told what was before it.
 */
async function answerWhenSettled(ports: AdminPorts, { by, ...request }: StatedRequest, call: Call): Promise<void> {
  const name = nameOfAdmin(call.subject);
  const asker = { at: ports.now(), ...(name === undefined ? {} : { name }), ...(by === undefined ? {} : { by }) };
  const entry = auditEntryOf(request, asker);
  if (entry !== undefined) await ports.audit.note(entry);
  await ports.settled();
  if (ports.isLeading()) await answerRequest(ports, request, call);
}

async function answerRequest(ports: AdminPorts, request: AdminRequest, call: Call): Promise<void> {
  const farm = ports.farm();
  const answer = (body: AdminAnswer) => call.answer(body);
  switch (request.kind) {
    case "submit": {
      const large = request.chains.find((chain) => JSON.stringify(chain).length > askBytesMax);
      if (large !== undefined) {
        const message = `the request for ${large.configuration} is larger than the ${askBytesMax} bytes that a chain may have`;
        return answer({ kind: "refused", code: "too-large", message });
      }
      const chains = request.chains.filter(({ id }) => !ports.isKnown(id)).map(ports.keep);
      if (chains.length === 0) {
        return answer({ kind: "accepted", chains: request.chains.map((chain) => chain.id), superseded: [] });
      }
      const unproven = ports.builders.refusalOf(chains);
      if (unproven !== undefined) return answer(unproven);
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "chains-submitted", chains, answerTo }));
    }
    case "cancel": {
      const of = "all" in request.of ? { kind: "all" as const } : await targetNamed(ports, request.of.reference);
      if (of === undefined) return answer(notFound("reference" in request.of ? request.of.reference : ""));
      const isForced = request.isForced === true;
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "cancel-asked", of, isForced, answerTo }));
    }
    case "clean": {
      const { id, configuration } = request;
      if (isOver(ports, id)) return answer({ kind: "accepted", chains: [id], superseded: [] });
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "clean-asked", id, configuration, answerTo }));
    }
    case "reset": {
      const { id } = request;
      if (isOver(ports, id)) return answer({ kind: "accepted", chains: [id], superseded: [] });
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "reset-asked", id, answerTo }));
    }
    case "resolve-device": {
      const { reference, isRunning } = request;
      const chain = await unknownChain(ports, reference);
      if (chain === undefined) return answer(nothingUnknown(reference));
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "unknown-resolved", chain, isRunning, answerTo }));
    }
    case "history":
      return answer(await historyAnswer(ports, request));
    case "chains":
      return answer(await chainsAnswer(ports, request));
    case "resolve": {
      const found = await find(ports, request.reference);
      return answer(
        found === undefined
          ? notFound(request.reference)
          : { kind: "resolved", ...found, chain: withoutSecrets(found.chain) },
      );
    }
    case "agents":
      return answer({ kind: "agents", agents: [...agentViews(farm)] });
    case "drain":
      return answer(await drain(ports, request.agent, request.isDrained));
    case "enrol-agent":
    case "make-invitation":
    case "pairings":
    case "decide-pairing":
    case "revoke-agent":
      return answer(await ports.pairing.answer(request, nameOfAdmin(call.subject) ?? "admin"));
    case "agent-artifacts": {
      const { registry, memory, interpreter } = ports;
      const world = { registry, memory, history: interpreter.history, farm: () => ports.farm() };
      return answer(await agentArtifacts(world, request));
    }
    case "content-secret":
      return answer(ports.desk.secretOf(request.store, request.digest));
    case "cache":
      return answer({ kind: "cache", builds: [...farm.knowledge.builds.values()] });
    case "prune-cache":
      return answer({ kind: "cache-pruned", ...(await ports.pruneCache(request.before)) });
    case "devices":
      return answer(devicesAnswer(farm, ports.twins()));
    case "hold-device":
      return answer(await holdDevice(ports.memory, request));
    case "forget-device":
      return answer(await forgetDevice(ports.memory, farm, request.configuration));
    case "last-good-build":
      return answer(lastGoodAnswer(await newestFirst(ports), request.configuration));
    case "rollouts":
      return answer(await rolloutsAnswer(ports, request.id));
    case "change-rollout": {
      const { id, action } = request;
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "rollout-asked", id, action, answerTo }));
    }
    case "explain": {
      const found = await find(ports, request.reference);
      if (found === undefined) return answer(notFound(request.reference));
      const isLive = farm.chains.has(found.chain.id);
      const withHistory: Farm = isLive ? farm : { ...farm, chains: new Map([[found.chain.id, found.chain]]) };
      return answer({
        kind: "explained",
        chain: found.chain.id,
        lines: [...explain(withHistory, found.chain.id, ports.now())],
      });
    }
    case "newest-build":
      return answer(await newestBuildAnswer(ports, request.reference));
    case "build-of-image":
      return answer(buildAnswer(newestWithImage(await newestFirst(ports), request.digest), request.digest));
    case "builder-key":
      return answer({ kind: "builder-key", standing: ports.registry.builderStanding(request.agent, request.user) });
    case "status":
      return answer({
        kind: "status",
        version: farmVersion,
        at: ports.now(),
        since: ports.startedAt,
        live: farm.chains.size,
        queueDepth: queueDepth(farm),
      });
  }
}

async function drain(ports: AdminPorts, agent: AgentId, isDrained: boolean): Promise<AdminAnswer> {
  const found = agentViews(ports.farm()).find(({ announcement }) => announcement.agent === agent);
  // One that is away for good, and was drained, can be given back its name.
  if (found === undefined && !ports.memory.knowledge.drained.has(agent)) {
    const message = `no agent is called ${agent}; \`flashyard agents\` lists them`;
    return { kind: "refused", code: "not-found", message };
  }
  await ports.memory.setDrained(agent, isDrained);
  // Whoever waited for this agent, or can have it now, is placed at once.
  ports.post({ kind: "time-passed" });
  return { kind: "drained", agent, isDrained, busy: found?.busy ?? 0 };
}

/** Whether a clean that is asked for again has been done already. */
function isOver(ports: AdminPorts, id: ChainId): boolean {
  return ports.isKnown(id) && !ports.farm().chains.has(id);
}

function postOrRefuse(ports: AdminPorts, call: Call, event: (answerTo: number) => FarmEvent): void {
  const answerTo = ports.answers.expect(call);
  if (!ports.post(event(answerTo))) {
    ports.answers.forget(answerTo);
    call.answer({ kind: "refused", code: "busy", message: "the coordinator has too much in its mailbox; try again" });
  }
}

function notFound(reference: string): AdminAnswer {
  return {
    kind: "refused",
    code: "not-found",
    message: `no chain, job or configuration is called ${JSON.stringify(reference)}`,
  };
}

async function chainsAnswer(
  ports: AdminPorts,
  { only, after, ended }: Extract<AdminRequest, { kind: "chains" }>,
): Promise<AdminAnswer> {
  const { chains } = ports.farm();
  const { history } = ports.interpreter;
  if (only === undefined) {
    const ids = [...chains.keys()].filter((id) => after === undefined || id > after).toSorted();
    const live = ids.flatMap((id) => chains.get(id) ?? []);
    return withinMessage(
      live.map((chain) => () => viewOf(ports, chain)),
      await history.newest(ended),
    );
  }
  const live = only.flatMap((id) => chains.get(id) ?? []);
  const others = await Promise.all(only.filter((id) => !chains.has(id)).map((id) => history.get(id)));
  return withinMessage(
    live.map((chain) => () => viewOf(ports, chain)),
    others.filter((chain) => chain !== undefined),
  );
}

/** As many of them as one message holds, the live ones first. */
function withinMessage(live: readonly (() => ChainView)[], ended: readonly Chain[]): AdminAnswer {
  let bytes = 0;
  const fits = (value: unknown) => {
    bytes += JSON.stringify(value).length;
    return bytes <= chainsBytesMax;
  };
  const shown: ChainView[] = [];
  for (const make of live) {
    const view = make();
    if (!fits(view)) return { kind: "chains", live: shown, ended: [], isCut: true };
    shown.push(view);
  }
  const some = ended.findIndex((chain) => !fits(chain));
  if (some === -1) return { kind: "chains", live: shown, ended: [...ended] };
  return { kind: "chains", live: shown, ended: ended.slice(0, some), isCut: true };
}

async function newestBuildAnswer(ports: AdminPorts, reference: string): Promise<AdminAnswer> {
  const live = [...ports.farm().chains.values()];
  const found =
    newestBuild(live, reference) ?? newestBuild(await ports.interpreter.history.newest(lookBackMax), reference);
  return buildAnswer(found, reference);
}

function buildAnswer(found: Chain | undefined, reference: string): AdminAnswer {
  if (found?.compile?.outcome?.kind !== "built") {
    const message = `no build of ${JSON.stringify(reference)} has succeeded yet`;
    return { kind: "refused", code: "not-found", message };
  }
  return {
    kind: "newest-build",
    chain: found.id,
    configuration: found.configuration,
    manifest: found.compile.outcome.manifest,
    builtAt: found.compile.endedAt ?? found.createdAt,
  };
}

/** Live chains and the newest that have ended, the newest of all first. */
async function newestFirst(ports: AdminPorts): Promise<readonly Chain[]> {
  const chains = new Map([...(await ports.interpreter.history.newest(lookBackMax))].map((chain) => [chain.id, chain]));
  for (const [id, chain] of ports.farm().chains) chains.set(id, chain);
  return [...chains.values()].toSorted((a, b) => (a.id > b.id ? -1 : 1));
}

/** Rollouts that are not over, or the one that is named. */
async function rolloutsAnswer(ports: AdminPorts, id: ChainId | undefined): Promise<AdminAnswer> {
  const live = [...ports.farm().chains.values()];
  const chains = id === undefined ? live : (await newestFirst(ports)).filter(({ rollout }) => rollout?.id === id);
  const ofRollout = Map.groupBy(
    chains.filter(({ rollout }) => rollout !== undefined).toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    ({ rollout }) => rollout?.id,
  );
  if (id !== undefined && ofRollout.size === 0) return notFound(id);
  return { kind: "rollouts", rollouts: [...ofRollout.values()].flatMap((members) => rolloutView(members) ?? []) };
}

function viewOf(ports: AdminPorts, chain: Chain): ChainView {
  const running = [chain.confirm, chain.upload, chain.compile].find((job) => job?.state === "running");
  const progress = running === undefined ? undefined : ports.progressOf(jobRef(chain.id, running.name));
  return { chain: withoutSecrets(chain), ...(progress === undefined ? {} : { progress }) };
}

/** A configuration means all its live chains, also where one is newer than the others. */
async function targetNamed(ports: AdminPorts, reference: string): Promise<CancelTarget | undefined> {
  const found = await find(ports, reference);
  if (found === undefined) return undefined;
  const { chain, job } = found;
  const jobs = job === undefined ? {} : { jobs: [job] };
  return reference.startsWith(chain.id)
    ? { kind: "chain", chain: chain.id, ...jobs }
    : { kind: "configuration", configuration: chain.configuration, ...jobs };
}

/** The chain whose upload left its device in a state that nobody knows, unless a later one has settled that. */
async function unknownChain(ports: AdminPorts, reference: string): Promise<Chain | undefined> {
  const found = (await find(ports, reference, ({ upload }) => upload?.state === "unknown"))?.chain;
  if (found === undefined) return undefined;
  const hasTouched = ({ upload }: Chain) => upload?.flashClaim !== undefined && isTerminal(upload.state);
  const newest = await find(ports, found.configuration, hasTouched);
  if (newest !== undefined && newest.chain.id > found.id) return undefined;
  // The record may have been settled, and may be on its way into the history, since it was read. What is not live now is in the
  // history as it is; and whatever settles it before the event is handled is live then.
  const live = ports.farm().chains.get(found.id);
  const now = live ?? (await ports.interpreter.history.get(found.id));
  return now?.upload?.state === "unknown" ? now : undefined;
}

function nothingUnknown(reference: string): AdminAnswer {
  const message = `no upload of ${JSON.stringify(reference)} has left its device in an unknown state; see \`flashyard history\``;
  return { kind: "refused", code: "not-unknown", message };
}

async function historyAnswer(
  ports: AdminPorts,
  { configuration, isFailed, skip = 0, limit }: Extract<AdminRequest, { kind: "history" }>,
): Promise<AdminAnswer> {
  const isWanted = (chain: Chain) =>
    (configuration === undefined || configurationsOf(chain).includes(configuration)) &&
    (!isFailed || jobsOf(chain).some(({ state }) => state === "failed" || state === "unknown"));
  const isEverything = configuration === undefined && !isFailed;
  const ended = await ports.interpreter.history.newest(isEverything ? skip + limit : lookBackMax);
  return withinMessage([], ended.filter(isWanted).slice(skip, skip + limit));
}

/** What the user named and fits, live or ended. */
async function find(ports: AdminPorts, reference: string, isWanted: (chain: Chain) => boolean = () => true) {
  const live = findChain([...ports.farm().chains.values()].filter(isWanted), reference);
  if (live !== undefined) return live;
  // A chain's id is found without reading the whole history, which whoever follows a chain relies on.
  const id = ChainId.safeParse(reference.replace(jobSuffix, ""));
  const ended = id.success ? await ports.interpreter.history.get(id.data) : undefined;
  return (
    findChain([ended ?? []].flat().filter(isWanted), reference) ??
    findChain((await ports.interpreter.history.newest(lookBackMax)).filter(isWanted), reference)
  );
}
