/** Waves, confirmations, devices that sleep, and the way back, against a real server and coordinator; agents and ESPHome are stand-ins. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { poll, systemClock } from "#actor/clock.ts";
import { onAwaited, sightingsOutlet } from "#bus/sightings.ts";
import type { Chain } from "#protocol/chain.ts";
import { BootId } from "#protocol/ids.ts";
import type { AwaitedDevice } from "#protocol/sighting.ts";
import { CliFarm, jsonLines } from "#test/support/cli-farm.ts";
import { agentNamed } from "#test/support/farm-builders.ts";

let farm: CliFarm;
let folder: string;
const awaited: string[][] = [];

beforeAll(async () => {
  farm = await CliFarm.start();
  await farm.fakeEsphome();
  farm.work.flashes.resolve();
  folder = join(farm.home.path, "files");
  onAwaited(farm.connection, (devices: readonly AwaitedDevice[]) => awaited.push(devices.map(({ name }) => name)));
});
afterAll(() => farm[Symbol.asyncDispose]());

async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const seen = await poll(systemClock, { everyMs: 20, withinMs: 15_000 }, look);
  if (seen === undefined) throw new Error(`not within 15 s: ${what}`);
  return seen;
}

const untilChain = (name: string, fits: (chain: Chain) => boolean) =>
  until(`the chain of ${name}`, async () => {
    const chain = await farm.chain(name);
    return fits(chain) ? chain : undefined;
  });

/** The rollout that a command line has begun. */
const rolloutIn = (err: string): string => /rollout (\w{16}):/.exec(err)?.[1] ?? "none";

describe("a device that was flashed", () => {
  test("is asked once more, and known as confirmed", async () => {
    const file = await farm.configuration("porch");
    const cli = await farm.within("install", file, "--confirm", "--confirm-after", "0");
    expect([cli.code, cli.out]).toEqual([
      0,
      expect.stringMatching(/porch +confirm +succeeded .*it still runs this build/),
    ]);
    const { out } = await farm.within("devices", "--json");
    expect(jsonLines(out)).toContainEqual(expect.objectContaining({ configuration: "porch", level: "confirmed" }));
  });

  test("and goes back to its build before makes the install fail, and is shown so", async () => {
    farm.work.moods.set("cellar.local", "rolls-back");
    const cli = await farm.within("install", await farm.configuration("cellar"), "--confirm", "--confirm-after", "0");
    expect([cli.code, cli.out]).toEqual([1, expect.stringMatching(/cellar +confirm +failed .*went back to/)]);
    const { out } = await farm.within("devices", "--json");
    expect(jsonLines(out)).toContainEqual(expect.objectContaining({ configuration: "cellar", state: "rolled-back" }));
  });

  test("is known by its address from then on, until a person says that the hardware was replaced", async () => {
    const file = await farm.configuration("stairs");
    const macGiven = async () => {
      const cli = await farm.within("install", file, "--rebuild", "--confirm", "--confirm-after", "0");
      expect(cli.code === 0 ? "" : cli.out + cli.err).toBe("");
      const given = farm.work.given.findLast(
        ({ job, configuration }) => job === "upload" && configuration === "stairs",
      );
      return given?.job === "upload" ? given.target.mac : undefined;
    };
    expect(await macGiven()).toBeUndefined();
    await until("the device is known", async () => ((await macGiven()) === "AA:BB:CC:DD:EE:FF" ? true : undefined));
    expect((await farm.within("device", "forget", "stairs")).code).toBe(0);
    expect(await macGiven()).toBeUndefined();
  });

  test("is waited for no longer than its flash unless somebody asks for that", async () => {
    const cli = await farm.within("install", await farm.configuration("hall"), "--json");
    const jobs = jsonLines(cli.out).filter(({ kind, job }) => kind === "job" && job === "confirm");
    expect([cli.code, jobs.map(({ state }) => state)]).toEqual([0, ["held"]]);
    expect((await farm.chain("hall")).confirm).toMatchObject({ state: "held", spec: { afterMs: 60_000 } });
  });
});

describe("a rollout", () => {
  const names = ["r1", "r2", "r3", "r4"];
  const install = async (...more: readonly string[]) => {
    const files = await Promise.all(names.map((name) => farm.configuration(name)));
    return farm.within("install", ...files, "--rebuild", "--confirm-after", "0", ...more);
  };

  test("flashes its waves one after the other and waits for what devices say", async () => {
    const cli = await install("--canary", "1", "--wave", "2");
    expect([cli.code, cli.err]).toEqual([0, expect.stringMatching(/4 devices in 3 waves, stops at the first failure/)]);
    const chains = await Promise.all(names.map((name) => farm.chain(name)));
    const [first, second, third, fourth] = chains.map(({ upload, confirm }) => ({
      begun: upload?.startedAt ?? 0,
      confirmed: confirm?.endedAt ?? 0,
    }));
    expect(Math.min(second!.begun, third!.begun)).toBeGreaterThanOrEqual(first!.confirmed);
    expect(fourth!.begun).toBeGreaterThanOrEqual(Math.max(second!.confirmed, third!.confirmed));
    const id = rolloutIn(cli.err);
    await until("the end of the rollout", async () =>
      (await farm.within("rollout", "ls")).out.includes("no rollout is under way") ? true : undefined,
    );
    const status = await farm.within("rollout", "status", id);
    expect([status.code, status.out]).toEqual([0, expect.stringMatching(new RegExp(`rollout ${id} is over\\nWAVE`))]);
  });

  test("stops by itself, goes on when a person says so, and can be aborted", async () => {
    farm.work.moods.set("r1.local", "rolls-back");
    const cli = await install("--canary", "1", "--wave", "1", "--detach");
    const id = rolloutIn(cli.err);
    const stopped = await until("the rollout stops", async () => {
      const status = await farm.within("rollout", "status", id);
      return /has stopped/.test(status.out) ? status : undefined;
    });
    expect(stopped.code).toBe(1);
    expect(stopped.out).toMatch(/because 1 failed and 0 may.*\nWAVE +WAITING +FAILED[^]*\n {2}r1: .* went back to/);
    expect((await farm.chain("r2")).upload?.state).toBe("held");
    expect((await farm.within("explain", "r2")).out).toContain("has stopped: 1 failed, 0 may");
    farm.work.moods.delete("r1.local");
    farm.work.moods.set("r3.local", "rolls-back");
    expect((await farm.within("rollout", "resume", id)).out).toContain("is going on");
    await until("the rollout stops again", async () =>
      /has stopped, because 2 failed/.test((await farm.within("rollout", "status", id)).out) ? true : undefined,
    );
    expect((await farm.chain("r2")).confirm?.state).toBe("succeeded");
    expect((await farm.within("rollout", "abort", id, "--json")).out).toContain('"state":"ended"');
    expect((await farm.chain("r4")).upload).toMatchObject({
      state: "cancelled",
      outcome: { cause: "rollout-aborted" },
    });
    farm.work.moods.delete("r3.local");
  });

  test("that nobody knows, and waves that make no sense, are said to be so", async () => {
    expect((await farm.within("rollout", "status", "nonsense")).err).toContain("is no rollout");
    const unknown = await farm.within("rollout", "pause", "0".repeat(16));
    expect([unknown.code, unknown.err]).toEqual([2, expect.stringContaining("no rollout that is not over")]);
    const alone = await install("--max-failures", "1");
    expect([alone.code, alone.err]).toEqual([2, expect.stringContaining("--max-failures goes with")]);
  });
});

describe("a device that sleeps", () => {
  test("is built at once, flashed in the moment in which an agent hears it, and the wait survives a coordinator", async () => {
    farm.work.moods.set("meter.local", "sleeps");
    await farm.within("install", await farm.configuration("meter"), "--when-online", "--detach");
    const waiting = await untilChain("meter", ({ upload }) => upload?.state === "queued" && upload.attempt === 1);
    expect(waiting.compile?.state).toBe("succeeded");
    await until("the agents are told whom to look out for", () => awaited.find((names) => names.includes("meter")));
    expect((await farm.within("explain", "meter")).out).toContain("waits for a sign of life of its device");
    await farm.replaceCoordinator();
    farm.work.moods.delete("meter.local");
    const tell = sightingsOutlet(farm.connection);
    const boot = BootId.parse(randomBytes(8).toString("hex"));
    const done = await until("the device is flashed", async () => {
      // An agent repeats what it hears; what is said while nobody listens is lost.
      const seen = { name: "meter", host: "meter.local", addresses: [], via: "api" as const, at: systemClock.now() };
      tell({ v: 1, agent: agentNamed("flash-1"), boot, seen: [seen] });
      const chain = await farm.chain("meter").catch(() => undefined);
      return chain?.upload?.state === "succeeded" ? chain : undefined;
    });
    expect(done.upload?.attempt).toBe(2);
    await until("nobody is looked out for any more", () => (awaited.at(-1)?.length === 0 ? true : undefined));
  });

  test("with `deep_sleep:` is waited for without being asked to, and not asked again a minute later", async () => {
    await farm.within("install", await farm.configuration("sensor", "deep_sleep:", "  run_duration: 10s"));
    const { upload, confirm } = await farm.chain("sensor");
    expect(upload?.spec.timing).toEqual({ isAwaited: true });
    expect(confirm).toBeUndefined();
  });

  test("is flashed in the hours that its file or its user names, and a time that is none is refused", async () => {
    const file = await farm.configuration("heater", ".flashyard:", "  between: 02:00-05:00", "  when-online: true");
    await farm.within("install", file, "--detach");
    const { upload } = await farm.chain("heater");
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    expect(upload?.spec.timing).toEqual({ isAwaited: true, window: { from: 120, to: 300, zone } });
    await farm.within("cancel", "heater");
    const wrong = await farm.within("install", file, "--between", "2-5");
    expect([wrong.code, wrong.err]).toEqual([
      2,
      expect.stringContaining("a time of the day is written as 02:00-05:00"),
    ]);
  });
});

describe("a device on hold", () => {
  test("is left out of --all, and flashed by whoever names it", async () => {
    await farm.within("device", "hold", "r4", "--reason", "guests are here");
    const cli = await farm.within("install", "--all", "--folder", folder, "--detach");
    expect(cli.err).toContain("r4 is on hold (guests are here) and left out");
    expect(cli.out).not.toMatch(/ r4\n/);
    expect((await farm.within("install", join(folder, "r4.yaml"))).code).toBe(0);
    await farm.within("cancel", "--all");
    expect((await farm.within("device", "release", "r4")).code).toBe(0);
  });
});

describe("rollback", () => {
  test("flashes the last build that its device ran well, and there must be one", async () => {
    const file = await farm.configuration("attic");
    const none = await farm.within("rollback", file);
    expect([none.code, none.err]).toEqual([2, expect.stringContaining("no other build is known")]);
    await farm.within("install", file, "--confirm", "--confirm-after", "0");
    const good = await farm.chain("attic");
    farm.work.moods.set("attic.local", "rolls-back");
    await farm.within("install", await farm.configuration("attic", "# changed"), "--confirm", "--confirm-after", "0");
    farm.work.moods.delete("attic.local");
    const wishes = ["--confirm", "--confirm-after", "0", "--when-online"];
    const never = await farm.within("rollback", file, "--between", "noon");
    expect([never.code, never.err]).toEqual([2, expect.stringContaining('--between "noon": a time of the day')]);
    const back = await farm.within("rollback", file, ...wishes);
    expect([back.code, back.err]).toEqual([0, expect.stringContaining(`flashing what ${good.id} built`)]);
    expect(back.out).toMatch(/attic +confirm +succeeded/);
    const { upload } = await farm.chain("attic");
    const built = good.compile?.outcome;
    expect(upload?.spec).toMatchObject({ mayDowngrade: true, timing: { isAwaited: true } });
    expect(upload?.spec.manifest).toEqual(built?.kind === "built" ? built.manifest : undefined);
  });
});
