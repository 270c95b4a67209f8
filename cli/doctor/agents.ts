/** The agents of the farm, as they state themselves. All of it is pure. */
import type { Lane } from "#protocol/job.ts";
import { isAtLeast } from "#protocol/sandbox.ts";
import { farmVersion } from "#protocol/version.ts";
import { type Check, ok, problem, warning } from "#cli/doctor/check.ts";
import type { AnswerOf } from "#cli/farm.ts";
import { size } from "#cli/render.ts";

type Agents = AnswerOf<"agents">["agents"];

export function checkAgents(agents: Agents): readonly Check[] {
  const lanes = [checkLane(agents, "compile"), checkLane(agents, "upload")];
  const online = agents.filter((agent) => agent.online);
  if (online.length === 0) return lanes;
  return [...lanes, checkVersions(online), checkDrained(online), ...checkBuilders(online), checkReach(online)];
}

export function checkLane(agents: Agents, lane: Lane): Check {
  const name = `${lane} agents`;
  const ofLane = agents.filter(({ announcement }) => announcement.lane === lane);
  const online = ofLane.filter((agent) => agent.online);
  const slots = online.reduce((sum, { announcement }) => sum + announcement.slots, 0);
  const names = namesOf(online);
  if (slots > 0) return ok(name, `${names} with ${slots} slot${slots === 1 ? "" : "s"}`);
  const away = namesOf(ofLane);
  const found = away === "" ? "none has announced itself" : online.length > 0 ? `${names}: closing` : `${away}: away`;
  return problem(name, found, `start one: \`flashyard up\`, or ${lane}-agent/main.ts on another machine`);
}

export function checkVersions(online: Agents): Check {
  const others = online.filter(({ announcement }) => announcement.version !== farmVersion);
  if (others.length === 0) return ok("agents' versions", `all are ${farmVersion}`);
  const found = others.map(({ announcement }) => `${announcement.agent} is ${announcement.version}`).join(", ");
  return warning("agents' versions", found, `bring them to ${farmVersion}, after the coordinator (docs/operations.md)`);
}

export function checkDrained(online: Agents): Check {
  const drained = online.filter(({ isDrained }) => isDrained);
  if (drained.length === 0) return ok("drained agents", "none");
  return warning("drained agents", `${namesOf(drained)}: nothing new is given to them`, "`flashyard undrain AGENT`");
}

/** A build for an ESP32 needs 1 to 2 GB. */
const slotBytesMin = 2e9;

export function checkBuilders(online: Agents): readonly Check[] {
  const builders = online.filter(({ announcement }) => announcement.compile !== undefined);
  if (builders.length === 0) return [];
  const open = builders.filter(({ announcement }) => !isAtLeast(announcement.compile?.sandbox, "user"));
  const levels = builders.map(({ announcement: { agent, compile } }) => `${agent} ${compile?.sandbox ?? "none"}`);
  const tight = builders.filter(
    ({ announcement: { slots, compile } }) => slots > 0 && (compile?.memoryBytes ?? 0) / slots < slotBytesMin,
  );
  const unable = builders.filter(
    ({ announcement: { compile } }) => compile?.makesEnvironments !== true && compile?.esphomeVersions.length === 0,
  );
  const sandboxFix = "set FLASHYARD_SANDBOX=auto there (docs/sandbox.md): a build can read the agent's key";
  return [
    open.length === 0
      ? ok("sandboxes", levels.join(", "))
      : warning("sandboxes", `${namesOf(open)}: builds run in none`, sandboxFix),
    tight.length === 0
      ? ok("agents' memory", "2 GB or more for each build slot")
      : warning(
          "agents' memory",
          tight.map(({ announcement }) => memoryOf(announcement)).join(", "),
          "set FLASHYARD_SLOTS lower there: a build for an ESP32 needs 1 to 2 GB",
        ),
    unable.length === 0
      ? ok("agents' ESPHome", "every builder has one or makes one")
      : problem(
          "agents' ESPHome",
          `${namesOf(unable)}: none, and no Python that makes one`,
          "install Python 3.12 or newer with venv there, or name one in FLASHYARD_PYTHON",
        ),
  ];
}

function memoryOf({ agent, slots, compile }: Agents[number]["announcement"]): string {
  return `${agent}: ${size(compile?.memoryBytes ?? 0)} for ${slots} slot${slots === 1 ? "" : "s"}`;
}

export function checkReach(online: Agents): Check {
  const ports = online.flatMap(({ announcement }) => announcement.upload?.ports ?? []);
  return ok(
    "agents' ports",
    ports.length === 0 ? "no serial port is offered" : `${ports.length} offered (\`flashyard ports\`)`,
  );
}

function namesOf(agents: Agents): string {
  return agents.map(({ announcement }) => announcement.agent).join(", ");
}

type Devices = AnswerOf<"devices">;

export function checkDevices({ devices, notes = [], twins = [] }: Devices): readonly Check[] {
  const half = devices.filter(({ needsFlash }) => needsFlash === true).map(({ configuration }) => configuration);
  const held = notes.filter(({ isHeld }) => isHeld).map(({ configuration }) => configuration);
  const unknown = devices.filter(({ state }) => state === "unknown").map(({ configuration }) => configuration);
  return [
    half.length === 0
      ? ok("half-written devices", "none")
      : problem("half-written devices", half.join(", "), "flash them over their ports: their last flash was cut off"),
    unknown.length === 0
      ? ok("unknown devices", "none")
      : warning("unknown devices", unknown.join(", "), "look at them, and say it with `flashyard device resolve`"),
    held.length === 0
      ? ok("devices on hold", "none")
      : warning(
          "devices on hold",
          held.join(", "),
          "`flashyard device release` when they may be flashed in bulk again",
        ),
    twins.length === 0
      ? ok("names", "no two devices claim the same")
      : warning(
          "names",
          twins.map(({ name, macs }) => `${name}: ${macs.join(" and ")}`).join(", "),
          "give one of each another name: nobody can tell which one is flashed",
        ),
  ];
}
