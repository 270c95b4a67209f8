/** What an agent's process is told by its environment, checked; the same variables for every lane. */
import { homedir, hostname } from "node:os";
import { join } from "node:path";
import { UsageError } from "#protocol/errors.ts";
import { AgentId } from "#protocol/ids.ts";
import type { Lane } from "#protocol/job.ts";

export interface AgentSettings {
  /** FLASHYARD_NATS_URL */
  readonly url: string;
  /** FLASHYARD_AGENT; by default the machine's name and the lane. */
  readonly agent: AgentId;
  /** FLASHYARD_HOME: what must survive a restart. One process at a time uses it. */
  readonly home: string;
  /** FLASHYARD_CACHE: what can be made again, shared by all processes of the machine. */
  readonly cacheFolder: string;
  /** FLASHYARD_SLOTS */
  readonly slots: number;
  /** FLASHYARD_LOG: a level of pino. */
  readonly logLevel: string;
}

export const defaultUrl = "nats://127.0.0.1:4222";
const slotsMax = 256;

export function defaultCacheFolder(env: NodeJS.ProcessEnv): string {
  return env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard");
}

/** Where a process keeps what must survive, unless it is told otherwise. */
export function defaultHome(env: NodeJS.ProcessEnv): string {
  return env["FLASHYARD_HOME"] ?? join(homedir(), ".local", "share", "flashyard");
}

/** @throws UsageError `bad-setting` with the variable's name and value. */
export function readAgentSettings(env: NodeJS.ProcessEnv, lane: Lane): AgentSettings {
  const name = env["FLASHYARD_AGENT"] ?? `${machineName()}-${lane}`;
  const agent = AgentId.safeParse(name);
  if (!agent.success) {
    throw bad("FLASHYARD_AGENT", name, "an agent is named with a-z, 0-9 and -, at most 63 characters");
  }
  const slots = env["FLASHYARD_SLOTS"] ?? "1";
  if (!/^[1-9]\d{0,2}$/.test(slots) || Number(slots) > slotsMax) {
    throw bad("FLASHYARD_SLOTS", slots, `slots are a number from 1 to ${slotsMax}`);
  }
  return {
    url: env["FLASHYARD_NATS_URL"] ?? defaultUrl,
    agent: agent.data,
    home: env["FLASHYARD_HOME"] ?? join(defaultHome(env), agent.data),
    cacheFolder: defaultCacheFolder(env),
    slots: Number(slots),
    logLevel: env["FLASHYARD_LOG"] ?? "info",
  };
}

function bad(variable: string, value: string, rule: string): UsageError {
  return new UsageError("bad-setting", `${variable} is ${JSON.stringify(value)}: ${rule}`);
}

/** This machine's name as a part of an agent's. */
export function machineName(): string {
  const plain = hostname()
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "")
    .slice(0, 40);
  return plain === "" ? "machine" : plain;
}
