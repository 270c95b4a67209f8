/** Each check of `flashyard doctor` at its bad cases: what it says, and that it says what to do. */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createUser } from "@nats-io/nkeys";
import { identityFolder, newCredentials } from "#bus/identity/identity-folder.ts";
import { endOf } from "#bus/identity/token-claims.ts";
import { checkBuilders, checkDevices, checkDrained, checkLane, checkReach, checkVersions } from "#cli/doctor/agents.ts";
import type { Check } from "#cli/doctor/check.ts";
import { checkStatus } from "#cli/doctor/coordinator.ts";
import { checkEsptool, checkMulticast, checkPorts, serialPorts } from "#cli/doctor/flashing.ts";
import {
  checkAuthority,
  checkCertificateEnd,
  checkCredentials,
  checkFarmKeys,
  checkMode,
  checkToken,
} from "#cli/doctor/identity.ts";
import { checkCache, checkFolderSpace, checkMemory, checkNode, checkSpace } from "#cli/doctor/machine.ts";
import { checkAudit, checkChains, checkPayload, checkSignedIn, checkTransport } from "#cli/doctor/server.ts";
import { answerOf, checkProgram, checkSandbox } from "#cli/doctor/tools.ts";
import type { AgentView } from "#protocol/admin.ts";
import { Configuration } from "#protocol/ids.ts";
import { farmVersion } from "#protocol/version.ts";
import { userToken } from "#bus/identity/accounts.ts";
import { statementOf } from "#test/support/farm-builders.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const dayMs = 86_400_000;
const now = Date.UTC(2026, 10, 26);

/** Good is said without a fix, and bad with one. */
function good(check: Check | undefined, found: string | RegExp = /./): void {
  expect(check).toMatchObject({ state: "ok", found: expect.stringMatching(found) });
  expect(check?.fix).toBeUndefined();
}

function bad(
  check: Check | undefined,
  state: "warning" | "problem",
  found: string | RegExp,
  fix: string | RegExp,
): void {
  expect(check).toMatchObject({ state, found: expect.stringMatching(found), fix: expect.stringMatching(fix) });
}

const compileAgent = (name: string, more: object = {}, view: Partial<AgentView> = {}): AgentView => {
  const statement = statementOf(name, "compile");
  const compile = { ...statement.compile!, memoryBytes: 8e9, sandbox: "bubblewrap", ...more };
  return {
    announcement: { ...statement, version: farmVersion, compile },
    busy: 0,
    online: true,
    isDrained: false,
    seenAt: 0,
    ...view,
  };
};

test("a machine that is too old, too full or too small", async () => {
  good(checkNode("v24.1.0"));
  bad(checkNode("v22.9.0"), "problem", "v22.9.0", "install Node.js 24");
  good(checkSpace("free disk", "/x", 5e9, "FLASHYARD_CACHE"));
  bad(checkSpace("free disk", "/x", 1e9, "FLASHYARD_CACHE"), "warning", "/x", "FLASHYARD_CACHE");
  bad(checkSpace("free disk", "/x", 1e8, "FLASHYARD_CACHE"), "problem", "/x", "free some space");
  await using folder = await temporaryFolder();
  good(await checkFolderSpace("free disk", join(folder.path, "not/made/yet"), "FLASHYARD_CACHE"));
  const file = join(folder.path, "file");
  await writeFile(file, "");
  bad(
    await checkFolderSpace("free disk", join(file, "below"), "FLASHYARD_CACHE"),
    "problem",
    "ENOTDIR",
    "another folder",
  );
  good(await checkCache(join(folder.path, "cache")));
  bad(await checkCache(join(file, "cache")), "problem", "ENOTDIR", "FLASHYARD_CACHE");
  good(checkMemory({ memoryBytes: 16e9, processors: 8 }, 4));
  bad(checkMemory({ memoryBytes: 4e9, processors: 8 }, 4), "warning", "4 build slots", "FLASHYARD_SLOTS lower");
  bad(checkMemory({ memoryBytes: 1e9, processors: 4 }), "warning", "1 build slot", "add swap");
});

test("credentials that are missing, open to others, damaged or at their end", async () => {
  await using folder = await temporaryFolder();
  const { keys, admin, farm } = await identityFolder(join(folder.path, "identity"), "nats://127.0.0.1:4222");
  for (const check of await checkCredentials(admin, Date.now(), false)) good(check);
  bad((await checkCredentials(join(folder.path, "no.json"), now, false))[0], "warning", "there is no", "flashyard up");
  bad((await checkCredentials(join(folder.path, "no.json"), now, true))[0], "problem", "there is no", "pair");
  await chmod(admin, 0o644);
  bad((await checkCredentials(admin, now, false))[0], "problem", "others may read it", "chmod 600");
  await writeFile(admin, "{}", { mode: 0o600 });
  await chmod(admin, 0o600);
  bad((await checkCredentials(admin, now, false))[0], "problem", "damaged", "anew");
  const ending = await userToken(keys, { kind: "admin", name: "ann" }, createUser(), now / 1000);
  expect(endOf(ending)).toBe(now);
  expect(endOf("nonsense")).toBeNaN();
  good(checkToken(undefined, now));
  good(checkToken(now + 8 * dayMs, now));
  bad(checkToken(now + dayMs, now), "warning", "ends in", "renews");
  bad(checkToken(now - dayMs, now), "problem", "has ended", "pair this machine");
  bad(checkToken(Number.NaN, now), "problem", "cannot be read", "pair this machine");
  const another = (await identityFolder(join(folder.path, "another"), "nats://127.0.0.1:4222")).farm;
  bad(
    checkAuthority({ ...farm, authority: another.authority }, Date.now())[0],
    "problem",
    "is pinned",
    "somebody has changed",
  );
  bad(checkAuthority({ ...farm, authority: "none" }, now)[0], "problem", "cannot be read", "anew");
  bad(checkCertificateEnd("c", now + dayMs, now, "make one"), "warning", "ends in", "make one");
  bad(checkCertificateEnd("c", now - dayMs, now, "make one"), "problem", "has ended", "make one");
  await newCredentials(admin, keys, { role: { kind: "coordinator" }, servers: "nats://127.0.0.1:4222", farm });
  good((await checkCredentials(admin, Date.now(), false))[0], "a coordinator");
});

test("a farm's keys that are missing, open to others or damaged", async () => {
  await using folder = await temporaryFolder();
  const identity = join(folder.path, "identity");
  await identityFolder(identity, "nats://127.0.0.1:4222");
  for (const check of await checkFarmKeys(identity)) good(check);
  await chmod(identity, 0o755);
  bad((await checkFarmKeys(identity))[1], "problem", "mode 755", `chmod 700 ${identity}`);
  await chmod(join(identity, "keys.json"), 0o640);
  bad((await checkFarmKeys(identity))[0], "problem", "others may read it", "chmod 600");
  await mkdir(join(folder.path, "empty"));
  bad((await checkFarmKeys(join(folder.path, "empty")))[0], "problem", "there is no", "restore");
  bad(checkMode("m", "/x/keys.json", 0o100_644), "problem", "mode 644", "chmod 600 /x/keys.json");
});

test("a server that is open, small, or holds the chains otherwise than it should", () => {
  good(checkSignedIn("admin"), "let in as admin");
  bad(checkSignedIn(undefined), "warning", "open", "identity");
  good(checkTransport("tls://10.0.0.1:4222"), "encrypted");
  good(checkTransport("nats://127.0.0.1:4222"), "on this machine");
  good(checkPayload(8_388_608));
  bad(checkPayload(1_048_576), "warning", "messages of", "max_payload");
  const chains = { allowsAtomic: true, replicas: 1, isOnDisk: true };
  for (const check of checkChains(chains, false)) good(check);
  bad(checkChains(undefined, false)[0], "problem", "no chains yet", "start a coordinator");
  bad(checkChains({ ...chains, allowsAtomic: false }, false)[0], "problem", "not allowed", "coordinator again");
  bad(checkChains({ ...chains, isOnDisk: false }, false)[1], "problem", "memory only", "on disk");
  bad(checkChains(chains, true)[2], "warning", "1 of each record in a cluster", "three servers");
  good(checkAudit(chains));
  bad(checkAudit(undefined), "warning", "nobody writes down", "FY_AUDIT");
});

test("a coordinator of another version, with another clock, or with a queue that grows", () => {
  const status = { kind: "status" as const, version: farmVersion, live: 1, queueDepth: 2, at: now, since: now - dayMs };
  for (const check of checkStatus(status, now, now)) good(check);
  bad(checkStatus({ ...status, version: "0.0.1" }, now, now)[0], "warning", "0.0.1", "same version");
  bad(checkStatus({ ...status, at: now - 60_000 }, now, now)[2], "warning", "apart", "NTP");
  bad(checkStatus({ ...status, queueDepth: 5_000 }, now, now)[3], "warning", "5000 jobs", "flashyard ps");
});

test("agents that are away, of another version, drained, open, tight or without a Python", () => {
  const agent = compileAgent("build-1");
  good(checkLane([agent], "compile"), "build-1 with");
  bad(checkLane([], "compile"), "problem", "none has announced itself", "flashyard up");
  bad(checkLane([compileAgent("build-1", {}, { online: false })], "compile"), "problem", "build-1: away", "start one");
  good(checkVersions([agent]));
  const { announcement } = agent;
  bad(
    checkVersions([{ ...agent, announcement: { ...announcement, version: "0.0.1" } }]),
    "warning",
    "build-1 is 0.0.1",
    farmVersion,
  );
  good(checkDrained([agent]));
  bad(checkDrained([compileAgent("build-1", {}, { isDrained: true })]), "warning", "build-1", "undrain");
  for (const check of checkBuilders([agent])) good(check);
  bad(
    checkBuilders([compileAgent("open", { sandbox: "none" })])[0],
    "warning",
    "open: builds run in none",
    "FLASHYARD_SANDBOX=auto",
  );
  bad(checkBuilders([compileAgent("tight", { memoryBytes: 1e9 })])[1], "warning", "tight: 1", "FLASHYARD_SLOTS lower");
  const unable = { makesEnvironments: false, esphomeVersions: [] };
  bad(checkBuilders([compileAgent("bare", unable)])[2], "problem", "bare", "Python 3.12");
  good(checkReach([agent]), "no serial port");
});

test("devices that are half written, unknown, on hold or of one name", () => {
  const configuration = Configuration.parse("lamp");
  const device = {
    v: 1 as const,
    configuration,
    chain: "0".repeat(16) as never,
    at: 0,
    state: "succeeded",
    address: "x",
  };
  const answer = { kind: "devices" as const, devices: [device] };
  for (const check of checkDevices(answer)) good(check);
  bad(
    checkDevices({ ...answer, devices: [{ ...device, needsFlash: true }] })[0],
    "problem",
    "lamp",
    "over their ports",
  );
  bad(checkDevices({ ...answer, devices: [{ ...device, state: "unknown" }] })[1], "warning", "lamp", "device resolve");
  bad(
    checkDevices({ ...answer, notes: [{ v: 1, configuration, at: 0, isHeld: true }] })[2],
    "warning",
    "lamp",
    "device release",
  );
  const twins = [{ name: "lamp", macs: ["AA", "BB"] }];
  bad(checkDevices({ ...answer, twins })[3], "warning", "lamp: AA and BB", "another name");
});

test("programs that are missing or fail, and a kernel that grants builds no room", async () => {
  const { signal } = new AbortController();
  expect(await answerOf(["no-such-program"], signal)).toMatchObject({ state: "missing" });
  expect(await answerOf(["sh", "-c", "echo broken; exit 3"], signal)).toEqual({
    state: "fails",
    said: "exit code 3: broken",
  });
  good(checkProgram("git", await answerOf(["echo", "git version 2"], signal), "apt install git"), "git version 2");
  bad(
    checkProgram("git", { state: "missing", said: "" }, "apt install git"),
    "warning",
    "not on the PATH",
    "apt install git",
  );
  bad(checkProgram("git", { state: "fails", said: "exit code 1" }, "apt install git"), "warning", "exit code 1", "git");
  good(checkEsptool({ state: "missing", said: "" }, undefined), "the agent installs one");
  bad(checkEsptool({ state: "missing", said: "" }, "/opt/esptool"), "warning", "not on the PATH", "FLASHYARD_ESPTOOL");
  good(checkSandbox({ state: "works", said: "" }));
  bad(checkSandbox({ state: "missing", said: "" }), "warning", "not on the PATH", "apt install bubblewrap");
  bad(checkSandbox({ state: "fails", said: "exit code 1: no" }), "warning", "exit code 1: no", "user namespaces");
});

test("ports that the user may not open, and networks in which nobody is heard", async () => {
  good(checkPorts([]), "no USB adapter");
  good(checkPorts([{ path: "/dev/ttyUSB0", isOpen: true }]), "/dev/ttyUSB0");
  bad(checkPorts([{ path: "/dev/ttyUSB0", isOpen: false }]), "warning", "/dev/ttyUSB0", "dialout");
  await using folder = await temporaryFolder();
  for (const name of ["ttyUSB0", "ttyS0", "ttyACM12"]) await writeFile(join(folder.path, name), "");
  const found = await serialPorts(folder.path);
  expect(found.map(({ path }) => path).toSorted()).toEqual(
    ["ttyACM12", "ttyUSB0"].map((name) => join(folder.path, name)),
  );
  expect(await serialPorts(join(folder.path, "nothing"))).toEqual([]);
  good(checkMulticast("on", ["192.168.1.5"]), "192.168.1.5");
  good(checkMulticast("off", []));
  bad(checkMulticast("on", []), "warning", "no IPv4 address", "FLASHYARD_MDNS=off");
  bad(checkMulticast("10.0.0.9", ["192.168.1.5"]), "warning", "10.0.0.9 is no address", "FLASHYARD_MDNS");
});
