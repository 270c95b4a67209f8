/**
 * What an agent will probably need next, so that it may fetch it meanwhile. Nothing depends on a hint.
 *
 * 1. With each build its agent hears of the bundle of another one that it may have; in one step no two hear of the same.
 * 2. With each flash, and when one has to wait for a slot, an uploader hears of all images that it will probably flash next, at most as
 *    many as it has slots. Its newest hint takes the place of those before.
 */
import type { Chain } from "#protocol/chain.ts";
import type { AgentId, ChainId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";
import type { ImageAhead } from "#protocol/messages.ts";
import { manifestOf } from "#coordinator/core/chains.ts";
import { scarceSegment } from "#coordinator/core/conflicts.ts";
import { expectedUploadMs } from "#coordinator/core/durations.ts";
import { refusalOf } from "#coordinator/core/eligibility.ts";
import type { AgentState } from "#coordinator/core/farm.ts";
import { isKeptBack } from "#coordinator/core/placement.ts";
import { restsIn } from "#coordinator/core/slots.ts";
import type { Step } from "#coordinator/core/step.ts";

/** Looked at for each agent, or for all uploaders; further back the order changes before it is their turn. */
const lookAheadMax = 32;

/** Among more of them nobody can tell whose slot will be free first. */
const uploadersMax = 32;

/** Adds the hints that follow from what this step has dispatched and queued. */
export function hintNext(step: Step): void {
  if (step.draft.hasQueued("compile")) hintBundles(step);
  if (step.draft.hasQueued("upload")) hintImages(step);
}

/** Invariant 1. */
function hintBundles(step: Step): void {
  const hinted = new Set<ChainId>();
  for (const id of givenTo(step, "compile")) {
    const agent = step.draft.agent(id);
    const next = agent === undefined ? undefined : nextBuild(step, agent, hinted);
    if (next?.compile === undefined) continue;
    hinted.add(next.id);
    step.effects.push({ kind: "prefetch", agent: id, hint: { v: 1, bundle: next.compile.spec.bundle } });
  }
}

function nextBuild({ draft }: Step, agent: AgentState, hinted: ReadonlySet<ChainId>): Chain | undefined {
  let looked = 0;
  for (const chain of draft.queued("compile")) {
    looked += 1;
    if (looked > lookAheadMax) return undefined;
    const { compile } = chain;
    if (compile?.state !== "queued" || hinted.has(chain.id)) continue;
    if (refusalOf(compile, agent, draft.knowledge) === undefined) return chain;
  }
  return undefined;
}

/** An uploader as it will go on when nothing comes in between. */
interface Uploader {
  readonly agent: AgentState;
  /** In how long each of its slots is free (ms), or free again after what is next there. */
  readonly slotsMs: number[];
  readonly images: ImageAhead[];
}

/** Invariant 2. */
function hintImages(step: Step): void {
  const concerned = new Set(givenTo(step, "upload"));
  const changed = step.draft.changedChains();
  const isNews = (chain: Chain) => changed.has(chain.id);
  const waiting = waitingFlashes(step);
  if (concerned.size === 0 && !waiting.some(isNews)) return;
  const uploaders = uploadersOf(step);
  for (const chain of waiting) {
    const uploader = firstFree(step, uploaders, chain);
    const image = manifestOf(chain)?.images.find(({ role }) => role === (chain.upload?.spec.part ?? "ota"));
    if (uploader === undefined || image === undefined) continue;
    const [soonestMs = 0] = uploader.slotsMs.splice(0, 1);
    uploader.slotsMs.push(soonestMs + expectedUploadMs(step.draft.knowledge, chain));
    uploader.slotsMs.sort((a, b) => a - b);
    uploader.images.push({ digest: image.digest, bytes: image.bytes });
    if (isNews(chain)) concerned.add(uploader.agent.announcement.agent);
  }
  for (const { agent, images } of uploaders) {
    const id = agent.announcement.agent;
    if (concerned.has(id) && images.length > 0)
      step.effects.push({ kind: "prefetch", agent: id, hint: { v: 1, images } });
  }
}

/** The next flashes in the queue. Over a scarce medium one takes minutes, beside which its image is there at once. */
function waitingFlashes(step: Step): readonly Chain[] {
  const { draft, at } = step;
  const waiting: Chain[] = [];
  let looked = 0;
  for (const chain of draft.queued("upload")) {
    looked += 1;
    if (looked > lookAheadMax) break;
    const { upload } = chain;
    if (upload?.state !== "queued" || upload.mode === "probe" || (upload.notBeforeAt ?? 0) > at) continue;
    if (isKeptBack(step, chain)) continue;
    if (scarceSegment(upload.spec.target) === undefined) waiting.push(chain);
  }
  return waiting;
}

function uploadersOf({ draft, at }: Step): readonly Uploader[] {
  const agents = draft
    .agents()
    .filter(({ announcement, vanishedAt }) => announcement.lane === "upload" && vanishedAt === undefined);
  if (agents.length > uploadersMax) return [];
  return agents.map((agent) => {
    const rests = restsIn(draft.knowledge, draft.inHandOf(agent.announcement.agent), agent, at);
    const idle = Array.from({ length: Math.max(0, agent.announcement.slots - rests.length) }, () => 0);
    return { agent, slotsMs: [...idle, ...rests].sort((a, b) => a - b), images: [] };
  });
}

/** Whose slot will be free first, of those that may have the flash and have not heard of enough. */
function firstFree({ draft }: Step, uploaders: readonly Uploader[], { upload }: Chain): Uploader | undefined {
  let first: Uploader | undefined;
  for (const one of uploaders) {
    const [soonestMs = Infinity] = one.slotsMs;
    if (one.images.length >= one.agent.announcement.slots || soonestMs >= (first?.slotsMs[0] ?? Infinity)) continue;
    if (upload !== undefined && refusalOf(upload, one.agent, draft.knowledge) === undefined) first = one;
  }
  return first;
}

function givenTo({ effects }: Step, lane: Lane): readonly AgentId[] {
  return effects.flatMap((effect) => (effect.kind === "dispatch" && effect.job === lane ? [effect.agent] : []));
}
