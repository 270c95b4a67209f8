/** `flashyard artifact verify`: who built an artifact, from what and with what, and whether all of that holds. */
import { readFile, stat } from "node:fs/promises";
import { digestOf } from "#actor/digest.ts";
import { readStatement } from "#actor/provenance.ts";
import { type ArtifactManifest, imageBytesMax } from "#protocol/artifact.ts";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { describeFault } from "#protocol/failure.ts";
import type { Digest } from "#protocol/ids.ts";
import type { BuilderStanding, Statement } from "#protocol/provenance.ts";
import { shown } from "#cli/clean-text.ts";
import { configurationOf } from "#cli/configuration-files.ts";
import { type ExitCode, exitCodes, worstOf } from "#cli/exit-codes.ts";
import { type AnswerOf, Farm } from "#cli/farm.ts";
import { refusal, showRefusals } from "#cli/refusal.ts";
import type { Session } from "#cli/session.ts";

export interface VerifyOptions {
  readonly json?: boolean;
}

/** What is known of an artifact; `faults` are sentences, and without any it holds. */
export interface Verdict {
  readonly of: string;
  /** The newest chain that has it. */
  readonly chain: string;
  readonly manifest: ArtifactManifest;
  readonly statement: Statement | undefined;
  readonly standing: BuilderStanding | undefined;
  readonly faults: readonly string[];
}

type Found = Pick<AnswerOf<"newest-build">, "chain" | "manifest">;

export async function runVerify(
  session: Session,
  names: readonly string[],
  { json: isJson = false }: VerifyOptions,
): Promise<ExitCode> {
  await using farm = await Farm.open(session);
  const { terminal } = session;
  const codes: ExitCode[] = [];
  for (const name of names) {
    session.interrupted.throwIfAborted();
    const found = await buildOf(farm, name);
    if (typeof found === "string") {
      showRefusals(terminal, [refusal(name, found)], isJson);
      codes.push(exitCodes.badInput);
      continue;
    }
    const verdict = await verdictOf(farm, name, found);
    const isHolding = verdict.faults.length === 0;
    if (isJson) terminal.json({ kind: "artifact", isHolding, ...verdict });
    else for (const line of verdictLines(verdict)) terminal.line(line);
    codes.push(isHolding ? exitCodes.done : exitCodes.failed);
  }
  return worstOf(codes);
}

/** The build that is meant; a file that is no configuration is looked up by its digest. @returns a sentence that says why there is none */
async function buildOf(farm: Farm, name: string): Promise<Found | string> {
  try {
    const file = await stat(name).catch(() => undefined);
    const isFile = file?.isFile() === true;
    if (!isFile || /\.ya?ml$/.test(name)) {
      const reference = isFile ? configurationOf(name) : name;
      return await namedBuild(farm, reference);
    }
    if (file.size > imageBytesMax) return `it has ${file.size} bytes, and no image has more than ${imageBytesMax}`;
    const digest = await digestOfFile(name);
    return await farm.ask({ v: 1, kind: "build-of-image", digest }, "newest-build");
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message;
  }
}

/** Of an upload without a build of its own: what it flashes. @throws UsageError when nothing is called so */
async function namedBuild(farm: Farm, reference: string): Promise<Found> {
  try {
    return await farm.ask({ v: 1, kind: "newest-build", reference }, "newest-build");
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { chain } = await farm.ask({ v: 1, kind: "resolve", reference }, "resolved");
    const manifest = chain.upload?.spec.manifest;
    if (manifest === undefined) throw error;
    return { chain: chain.id, manifest };
  }
}

async function digestOfFile(file: string): Promise<Digest> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new UsageError("not-read", `it cannot be read: ${messageOf(cause)}`, { cause });
  });
  return digestOf(bytes);
}

async function verdictOf(farm: Farm, of: string, found: Found): Promise<Verdict> {
  const { chain, manifest } = found;
  const read = readStatement(manifest);
  const damage = await damageOf(farm, manifest);
  if (!read.ok) {
    return {
      of,
      chain,
      manifest,
      statement: undefined,
      standing: undefined,
      faults: [describeFault(read.fault), ...damage],
    };
  }
  const { statement } = read;
  const { agent, user } = statement;
  const { standing } = await farm.ask({ v: 1, kind: "builder-key", agent, user }, "builder-key");
  const faults = standing === "unknown" || standing === "revoked" ? [describeFault(`${standing}-builder`)] : [];
  return { of, chain, manifest, statement, standing, faults: [...faults, ...damage] };
}

/** Images that the farm's store does not have as the manifest says. */
async function damageOf(farm: Farm, { images, debug = [] }: ArtifactManifest): Promise<readonly string[]> {
  const store = farm.artifacts;
  const damage: string[] = [];
  for (const { name, digest } of [...images, ...debug]) {
    const got = await store.get(digest);
    if (!got.ok) damage.push(`${name}: in the farm's store, ${digest} is ${got.found}`);
  }
  return damage;
}

const standings: Readonly<Record<BuilderStanding, string>> = {
  paired: "its key",
  former: "a key that it had before",
  revoked: "revoked",
  unknown: "a key of no agent",
};

/** Pure. */
export function verdictLines({ of, chain, manifest, statement, standing, faults }: Verdict): readonly string[] {
  const { tool, platform, chip, images, debug = [] } = manifest;
  const facts: (readonly [string, string])[] = [];
  if (statement !== undefined) {
    const { agent, user, bundle, driver, farmVersion, builtAt, configuration, attempt } = statement;
    const standingText = standing === undefined ? "" : `, ${standings[standing]}`;
    facts.push(
      ["built by", `${agent} (${user}${standingText}), flashyard ${farmVersion}`],
      ["at", dateOf(builtAt)],
      ["for", `${configuration}, chain ${statement.chain}, attempt ${attempt}`],
      ...(statement.chain === chain ? [] : [["used by", chain] as const]),
      ["from", `bundle ${bundle}`],
      ["with", `${tool.name} ${tool.version} for ${chip ?? platform} (driver ${driver})`],
    );
  }
  for (const { name, digest } of [...images, ...debug]) facts.push(["image", `${digest}  ${name}`]);
  const verdict = faults.length === 0 ? "holds" : "does NOT hold";
  return [
    `${of}: ${verdict}`,
    ...facts.map(([what, text]) => `  ${what.padEnd(9)} ${text}`),
    ...faults.map((fault) => `  ${"fault".padEnd(9)} ${fault}`),
  ].map(shown);
}

function dateOf(at: number): string {
  return Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : String(at);
}
