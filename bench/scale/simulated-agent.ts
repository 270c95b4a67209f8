/** Agents of the scale benchmark, by number: even ones build, odd ones flash. Pure. */
import type { Announcement } from "#protocol/agent.ts";
import { AgentId, BootId } from "#protocol/ids.ts";
import { farmVersion } from "#protocol/version.ts";
import { configurationNumber, configurations } from "#bench/scale/ended-chain.ts";

/** Build trees that a build machine keeps. */
const treesPerAgent = 20;

/** What stays the same in all statements of an agent. */
export function identityNumber(number: number): Omit<Announcement, "v" | "idleSince" | "holding"> {
  const isBuilder = number % 2 === 0;
  const common = {
    boot: BootId.parse(number.toString(36).padStart(8, "0")),
    slots: 1,
    version: farmVersion,
    host: `machine-${number}`,
    pid: 1,
  };
  if (!isBuilder) return { agent: AgentId.parse(`flasher-${number}`), lane: "upload", ...common };
  const compile = {
    esphomeVersions: ["2026.10.0"],
    makesEnvironments: true,
    pythons: ["3.13.1"],
    cpus: 4,
    memoryBytes: 8 * 1024 ** 3,
    environment: "linux-x64",
    warm: Array.from({ length: treesPerAgent }, (_, tree) => ({
      version: "2026.10.0",
      configuration: configurationNumber((number * 7 + tree * 37) % configurations),
      bytes: 300_000_000,
      usedAt: 1_790_000_000_000,
    })),
  };
  return { agent: AgentId.parse(`builder-${number}`), lane: "compile", ...common, compile };
}
