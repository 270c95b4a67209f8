/** What an agent's process is told by its environment, checked; the same variables for every lane, and those of the compile lane. */
import { availableParallelism, homedir, hostname, totalmem } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import type { SandboxLevel } from "#protocol/sandbox.ts";
import { UsageError } from "#protocol/errors.ts";
import { AgentId, Label } from "#protocol/ids.ts";
import { EsphomeVersion, type Lane } from "#protocol/job.ts";

export interface AgentSettings {
  /** FLASHYARD_NATS_URL; absent: the servers of the credentials. */
  readonly servers?: string | undefined;
  /** FLASHYARD_CREDENTIALS: the file that it signs in with, by default in its home; an open farm needs none. */
  readonly credentials: string;
  /** FLASHYARD_AGENT; by default the machine's name and the lane. */
  readonly agent: AgentId;
  /** FLASHYARD_HOME: what must survive a restart. One process at a time uses it. */
  readonly home: string;
  /** FLASHYARD_CACHE: what can be made again, shared by all processes of the machine. */
  readonly cacheFolder: string;
  /** FLASHYARD_SLOTS */
  readonly slots: number;
  /** FLASHYARD_LABELS */
  readonly labels: readonly Label[];
  /** FLASHYARD_LOG: a level of pino. */
  readonly logLevel: string;
}

/** What only a build machine is told. */
export interface CompileSettings {
  /** FLASHYARD_ESPHOME_VERSIONS; absent: any. */
  readonly pinnedVersions?: readonly string[];
  /** FLASHYARD_PLATFORMS; absent: any. */
  readonly pinnedPlatforms?: readonly string[];
  /** FLASHYARD_TREES_GB; absent: a share of the disk. */
  readonly treesBytesMax?: number;
  /** FLASHYARD_ENVIRONMENTS: how many ESPHome environments the machine keeps. */
  readonly environmentsMax: number;
  readonly sandbox: SandboxChoice;
}

/** What builds run in, and what each may take. */
export interface SandboxChoice {
  /** FLASHYARD_SANDBOX */
  readonly level: "auto" | SandboxLevel;
  /** FLASHYARD_BUILD_MEMORY_GB; absent: a slot's share. */
  readonly memoryBytesMax?: number;
  /** FLASHYARD_BUILD_PROCESSES */
  readonly processesMax: number;
  /** FLASHYARD_BUILD_DISK_GB: a build's tree. */
  readonly diskBytesMax: number;
  /** FLASHYARD_SANDBOX_NETWORK */
  readonly hasNetwork: boolean;
  /** FLASHYARD_SANDBOX_TOOLS: whether builds share the home in which their tools are kept. */
  readonly sharesTools: boolean;
  /** FLASHYARD_SANDBOX_READS: folders that builds may read. */
  readonly readable: readonly string[];
  /** FLASHYARD_BUILD_USER: whom builds of the level `user` run as, by name or as `uid:gid`. */
  readonly buildUser: string;
  /** FLASHYARD_SANDBOX_ENGINE and FLASHYARD_SANDBOX_IMAGE: what runs the containers of the level `container`, and from which image. */
  readonly engine: "docker" | "podman";
  readonly image?: string;
}

/** What only an upload agent is told. */
export interface UploadSettings {
  /** FLASHYARD_MDNS: whether devices are looked for by multicast DNS, or the networks in which they are, by this machine's addresses. */
  readonly mdns: "on" | "off" | readonly string[];
  /** FLASHYARD_PORTS, as it stands: ports that the owner has named. */
  readonly ports?: string | undefined;
  /** FLASHYARD_FLASHERS: the file of the commands that may flash here. */
  readonly flasherFile?: string | undefined;
  /** FLASHYARD_ESPTOOL, FLASHYARD_AVRDUDE, FLASHYARD_PYTHON: where they are. */
  readonly esptool?: string | undefined;
  readonly avrdude?: string | undefined;
  readonly python?: string | undefined;
}

/** What the number of slots follows from. */
export interface Machine {
  readonly memoryBytes: number;
  readonly processors: number;
}

const slotsMax = 256;
const listMax = 32;
const gigabyte = 1e9;
/** As ESPHome calls them in a configuration: `esp32`, `host`, `bk72xx`. */
const platform = z.string().regex(/^[a-z0-9_]{1,40}$/, "a platform has a-z, 0-9 and _ (at most 40)");

const absoluteFolder = z.string().regex(/^\/[^/]/, "a folder is named from the root, and is not the root");
const ownAddress = z.ipv4("multicast DNS is on, off, or for IPv4 addresses of this machine");

export function defaultCacheFolder(env: NodeJS.ProcessEnv): string {
  return env["FLASHYARD_CACHE"] ?? join(homedir(), ".cache", "flashyard");
}

/** Where a process keeps what must survive, unless it is told otherwise. */
export function defaultHome(env: NodeJS.ProcessEnv): string {
  return env["FLASHYARD_HOME"] ?? join(homedir(), ".local", "share", "flashyard");
}

/** What an agent signs in with, unless it is told otherwise. */
export function credentialsFile(home: string): string {
  return join(home, "credentials.json");
}

/** What people on this machine sign in with: FLASHYARD_CREDENTIALS, or what `flashyard up` has made. */
export function defaultCredentials(env: NodeJS.ProcessEnv): string {
  return env["FLASHYARD_CREDENTIALS"] ?? join(defaultHome(env), "farm", "identity", "admin.json");
}

/** @throws UsageError `bad-setting` with the variable's name and value. */
export function readAgentSettings(env: NodeJS.ProcessEnv, lane: Lane, machine = thisMachine()): AgentSettings {
  const name = env["FLASHYARD_AGENT"] ?? `${machineName()}-${lane}`;
  const agent = AgentId.safeParse(name);
  if (!agent.success) {
    throw bad("FLASHYARD_AGENT", name, "an agent is named with a-z, 0-9 and -, at most 63 characters");
  }
  const slots = env["FLASHYARD_SLOTS"] ?? "auto";
  const isNumber = /^[1-9]\d{0,2}$/.test(slots) && Number(slots) <= slotsMax;
  if (slots !== "auto" && !isNumber) {
    throw bad("FLASHYARD_SLOTS", slots, `slots are a number from 1 to ${slotsMax}, or auto`);
  }
  const labels = listOf("FLASHYARD_LABELS", env["FLASHYARD_LABELS"], Label);
  const home = env["FLASHYARD_HOME"] ?? join(defaultHome(env), agent.data);
  return {
    servers: env["FLASHYARD_NATS_URL"],
    credentials: env["FLASHYARD_CREDENTIALS"] ?? credentialsFile(home),
    agent: agent.data,
    home,
    cacheFolder: defaultCacheFolder(env),
    slots: isNumber ? Number(slots) : automaticSlots(lane, machine),
    labels,
    logLevel: env["FLASHYARD_LOG"] ?? "info",
  };
}

/** @throws UsageError `bad-setting` with the variable's name and value. */
export function readCompileSettings(env: NodeJS.ProcessEnv): CompileSettings {
  const versions = listOf("FLASHYARD_ESPHOME_VERSIONS", env["FLASHYARD_ESPHOME_VERSIONS"], EsphomeVersion);
  const platforms = listOf("FLASHYARD_PLATFORMS", env["FLASHYARD_PLATFORMS"], platform);
  const trees = env["FLASHYARD_TREES_GB"];
  const environments = env["FLASHYARD_ENVIRONMENTS"] ?? "5";
  if (!/^[1-9]\d?$/.test(environments)) {
    throw bad("FLASHYARD_ENVIRONMENTS", environments, "the environments that are kept are a number from 1 to 99");
  }
  return {
    ...(versions.length === 0 ? {} : { pinnedVersions: versions }),
    ...(platforms.length === 0 ? {} : { pinnedPlatforms: platforms }),
    ...(trees === undefined ? {} : { treesBytesMax: gigabytesOf("FLASHYARD_TREES_GB", trees) }),
    environmentsMax: Number(environments),
    sandbox: readSandboxChoice(env),
  };
}

/** @throws UsageError `bad-setting` with the variable's name and value. */
function readSandboxChoice(env: NodeJS.ProcessEnv): SandboxChoice {
  const memory = env["FLASHYARD_BUILD_MEMORY_GB"];
  const processes = env["FLASHYARD_BUILD_PROCESSES"] ?? "512";
  if (!/^[1-9]\d{1,4}$/.test(processes)) {
    throw bad("FLASHYARD_BUILD_PROCESSES", processes, "a build has a number of processes from 10 to 99999");
  }
  return {
    level: oneOf("FLASHYARD_SANDBOX", env["FLASHYARD_SANDBOX"], ["none", "auto", "user", "bubblewrap", "container"]),
    engine: oneOf("FLASHYARD_SANDBOX_ENGINE", env["FLASHYARD_SANDBOX_ENGINE"], ["docker", "podman"]),
    ...imageOf(env["FLASHYARD_SANDBOX_IMAGE"]),
    buildUser: buildUserOf(env["FLASHYARD_BUILD_USER"] ?? "flashyard-build"),
    ...(memory === undefined ? {} : { memoryBytesMax: gigabytesOf("FLASHYARD_BUILD_MEMORY_GB", memory) }),
    processesMax: Number(processes),
    diskBytesMax: gigabytesOf("FLASHYARD_BUILD_DISK_GB", env["FLASHYARD_BUILD_DISK_GB"] ?? "10"),
    hasNetwork: oneOf("FLASHYARD_SANDBOX_NETWORK", env["FLASHYARD_SANDBOX_NETWORK"], ["on", "off"]) === "on",
    sharesTools: oneOf("FLASHYARD_SANDBOX_TOOLS", env["FLASHYARD_SANDBOX_TOOLS"], ["shared", "own"]) === "shared",
    readable: listOf("FLASHYARD_SANDBOX_READS", env["FLASHYARD_SANDBOX_READS"], absoluteFolder),
  };
}

function imageOf(text: string | undefined): { readonly image?: string } {
  if (text === undefined) return {};
  if (/^[a-z0-9][\w./:@-]{0,254}$/i.test(text)) return { image: text };
  throw bad("FLASHYARD_SANDBOX_IMAGE", text, "an image is named as debian:13 or registry.example/build@sha256:…");
}

function buildUserOf(text: string): string {
  if (/^([a-z_][a-z0-9_-]{0,31}|\d{1,10}:\d{1,10})$/i.test(text)) return text;
  throw bad("FLASHYARD_BUILD_USER", text, "a user is named, or given as uid:gid");
}

/** The first choice is what counts when the variable is not set. */
function oneOf<const T extends string>(variable: string, text: string | undefined, choices: readonly [T, ...T[]]): T {
  const value = text ?? choices[0];
  const choice = choices.find((one) => one === value);
  if (choice === undefined) throw bad(variable, value, `it is one of ${choices.join(", ")}`);
  return choice;
}

function gigabytesOf(variable: string, text: string): number {
  if (/^\d{1,5}(\.\d{1,3})?$/.test(text) && Number(text) > 0) return Math.round(Number(text) * gigabyte);
  throw bad(variable, text, "it is a number of gigabytes, more than 0 and less than 100000");
}

/**
 * What a build may have of the memory when nobody says it: a slot's share without the system's gigabyte, and 2 GB at least, because
 * less fails builds for an ESP32 that would have passed by swapping.
 */
export function automaticMemoryBytes(slots: number, { memoryBytes }: Machine): number {
  return Math.max(2 * gigabyte, Math.floor((memoryBytes - gigabyte) / slots));
}

/** @throws UsageError `bad-setting` with the variable's name and value. */
export function readUploadSettings(env: NodeJS.ProcessEnv): UploadSettings {
  const mdns = env["FLASHYARD_MDNS"] ?? "on";
  const tools = {
    ports: env["FLASHYARD_PORTS"],
    flasherFile: env["FLASHYARD_FLASHERS"],
    esptool: env["FLASHYARD_ESPTOOL"],
    avrdude: env["FLASHYARD_AVRDUDE"],
    python: env["FLASHYARD_PYTHON"],
  };
  if (mdns === "on" || mdns === "off") return { mdns, ...tools };
  return { mdns: listOf("FLASHYARD_MDNS", mdns, ownAddress), ...tools };
}

/**
 * How many jobs a lane works at a time when nobody says it. A build for an ESP32, with one compiler for each processor, needs 1 to
 * 2 GB: 3 GB for each leave room for the linker and for what the system keeps of the disk in memory, and the first gigabyte is the
 * system's. Each build alone takes all processors, so more of them than half the processors only wait for each other; the second
 * one fills the pauses of the first (Python, unpacking, linking). An upload lane has one: its devices share a weak network.
 */
export function automaticSlots(lane: Lane, { memoryBytes, processors }: Machine): number {
  if (lane === "upload") return 1;
  const byMemory = Math.floor((memoryBytes - gigabyte) / (3 * gigabyte));
  return Math.max(1, Math.min(byMemory, Math.floor(processors / 2), slotsMax));
}

/** The memory is that of the container where there is one; the kernel counts its processors in the same way. */
export function thisMachine(): Machine {
  const constrained = process.constrainedMemory();
  const memoryBytes = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  return { memoryBytes, processors: availableParallelism() };
}

type Read<T> =
  | { readonly success: true; readonly data: T }
  | { readonly success: false; readonly error: { readonly issues: readonly { readonly message: string }[] } };

/** What stands between commas, each once. */
function listOf<T>(
  variable: string,
  text: string | undefined,
  schema: { safeParse(part: string): Read<T> },
): readonly T[] {
  const parts = (text ?? "").split(",").map((part) => part.trim());
  const read = [...new Set(parts)].filter((part) => part !== "").map((part) => schema.safeParse(part));
  const values = read.map((part) => {
    if (part.success) return part.data;
    throw bad(
      variable,
      text ?? "",
      `${part.error.issues[0]?.message ?? "not readable"}; several are separated by commas`,
    );
  });
  if (values.length > listMax) throw bad(variable, text ?? "", `at most ${listMax} can be named`);
  return values;
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
