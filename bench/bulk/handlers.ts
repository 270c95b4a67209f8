/** How the agents of the benchmark do their jobs. */
import { createHash, randomFillSync } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { thisMachine } from "#actor/agent-settings.ts";
import { systemClock } from "#actor/clock.ts";
import type { JobHandler } from "#actor/lane-worker.ts";
import type { ArtifactManifest } from "#protocol/artifact.ts";
import { InvariantError } from "#protocol/errors.ts";
import { type AgentId, Digest } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import { objectStores } from "#protocol/names.ts";
import type { Connection } from "#bus/connection.ts";
import { onPrefetch } from "#bus/lanes.ts";
import { ObjectStore } from "#bus/object-store.ts";
import { aheadBytesOf, ImagesAhead } from "#upload-agent/images-ahead.ts";
import type { AgentWord, Stage, Work } from "#bench/bulk/agent-plan.ts";
import { esphomeVersion } from "#bench/bulk/chain-request.ts";

export interface HandlerWorld {
  readonly connection: Connection;
  readonly agent: AgentId;
  readonly home: string;
  readonly say: (word: AgentWord) => void;
}

const stopped: JobResult = { kind: "stopped" };

export function handlerFor(work: Work, world: HandlerWorld): JobHandler {
  switch (work.kind) {
    case "nothing":
      return async ({ job }) => (job === "upload" ? flashed(0) : built(emptyDigest, 1, 0));
    case "build":
      return builder(work, world);
    case "flash":
      return flasher(work, world);
  }
}

function builder({ buildMs, artifactBytes }: Extract<Work, { kind: "build" }>, world: HandlerWorld): JobHandler {
  const { connection, home, say } = world;
  const bundles = new ObjectStore(connection, objectStores.bundles);
  const artifacts = new ObjectStore(connection, objectStores.artifacts);
  const bytes = Buffer.alloc(artifactBytes);
  return async (dispatch, attempt) => {
    const { signal } = attempt;
    if (dispatch.job !== "compile") throw new InvariantError("wrong-lane", `a ${dispatch.job} came down the lane`);
    const startedAt = systemClock.monotonic();
    const bundle = await timed("bundle-in", say, () => bundles.get(dispatch.spec.bundle, { signal }));
    if (!bundle.ok) throw new InvariantError("no-bundle", `the bundle of ${dispatch.chain} is ${bundle.found}`);
    const file = join(home, `${dispatch.chain}.bin`);
    try {
      const building = systemClock.pause(buildMs, signal);
      await mkdir(home, { recursive: true });
      await writeFile(file, randomFillSync(bytes));
      if (!(await building)) return stopped;
      const digest = await timed("image-hashed", say, () => digestOfFile(file));
      const slotMs = Math.round(systemClock.monotonic() - startedAt);
      await attempt.release();
      await timed("image-out", say, () => artifacts.putFile(digest, file, { signal }));
      return built(digest, artifactBytes, slotMs);
    } finally {
      await rm(file, { force: true });
    }
  };
}

function flasher({ uploadMs }: Extract<Work, { kind: "flash" }>, { connection, agent, say }: HandlerWorld): JobHandler {
  const store = new ObjectStore(connection, objectStores.artifacts);
  const images = new ImagesAhead(store, systemClock, aheadBytesOf(thisMachine().memoryBytes));
  onPrefetch(connection, agent, (hint) => {
    if ("images" in hint) images.hint(hint.images);
  });
  return async (dispatch, attempt) => {
    const { signal } = attempt;
    if (dispatch.job !== "upload") throw new InvariantError("wrong-lane", `a ${dispatch.job} came down the lane`);
    const [image] = dispatch.manifest.images;
    if (image === undefined) throw new InvariantError("no-image", `the build of ${dispatch.chain} has no image`);
    const fetched = await timed("image-in", say, () => images.get(image.digest, { signal }));
    if (!fetched.ok) throw new InvariantError("no-image", `the image of ${dispatch.chain} is ${fetched.found}`);
    if ((await attempt.claimFlash()) !== "go") return stopped;
    await systemClock.pause(uploadMs);
    return flashed(uploadMs);
  };
}

async function timed<T>(stage: Stage, say: HandlerWorld["say"], work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const done = await work();
  say({ kind: "stage", stage, ms: performance.now() - startedAt });
  return done;
}

async function digestOfFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return Digest.parse(hash.digest("hex"));
}

const emptyDigest = Digest.parse("0".repeat(64));

function built(digest: Digest, bytes: number, buildMs: number): JobResult {
  const manifest: ArtifactManifest = {
    v: 1,
    tool: { name: "esphome", version: esphomeVersion },
    platform: "host",
    images: [{ role: "ota", name: "firmware.ota.bin", digest, bytes }],
    esphome: {
      name: "device",
      configHash: "1a2b3c4d",
      buildTime: 1,
      buildTimeStr: "2026-01-01 00:00:00 +0000",
      esphomeVersion,
    },
  };
  return { kind: "built", manifest, buildMs };
}

function flashed(flashMs: number): JobResult {
  return { kind: "flashed", level: "committed", wrote: true, flashMs };
}
