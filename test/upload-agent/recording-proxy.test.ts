/** The judge of flash sessions is judged here: what it records is what happened. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import { SimulatedDevice } from "#simulator/device.ts";
import { flashSessions, readRecord, RecordingProxy } from "#test/support/recording-proxy.ts";
import { flash, newImage, oldBuild, password, targetOf } from "#test/support/simulated-flash.ts";

const digest = createHash("sha256").update(newImage).digest("hex");
const isClosed = (session: { readonly closedAt?: number } | undefined) => session?.closedAt !== undefined;

describe("a recording proxy", () => {
  it.each(["none", "gzip", "deflate"] as const)(
    "follows a flash to its end and knows the image (%s)",
    async (compression) => {
      const method = compression === "gzip" ? "md5" : "sha256";
      await using device = await SimulatedDevice.start({
        build: oldBuild,
        compression,
        extended: compression !== "gzip",
        password: { method, text: password },
      });
      await using proxy = await RecordingProxy.start({ to: device.otaPort });
      const { result } = await flash(targetOf(device, { port: proxy.port }));
      await proxy.until(([session]) => isClosed(session));
      expect(proxy.sessions).toMatchObject([
        {
          magicSeen: true,
          sizeSeen: true,
          dataBytes: result.ok && result.wireBytes,
          imageDigest: digest,
          committed: true,
        },
      ]);
    },
  );

  it("tells a flash session from a wrong password and from a port scan", async () => {
    await using device = await SimulatedDevice.start({
      build: oldBuild,
      password: { method: "sha256", text: password },
    });
    await using proxy = await RecordingProxy.start({ to: device.otaPort });
    await flash(targetOf(device, { port: proxy.port, password: "no" }));
    connect(proxy.port, "127.0.0.1").end();
    await proxy.until((sessions) => sessions.length === 2 && sessions.every(isClosed));
    expect(proxy.sessions).toMatchObject([
      { magicSeen: true, sizeSeen: false, errorByte: 0x82 },
      { magicSeen: false, sizeSeen: false, clientBytes: 0 },
    ]);
    expect(flashSessions(proxy.sessions)).toEqual([]);
    await flash(targetOf(device, { port: proxy.port }));
    expect(flashSessions(proxy.sessions)).toHaveLength(1);
  });

  it("notes an error of the device in the middle of the image", async () => {
    const fault = { at: "block", act: [0x83], afterBytes: 40_000 } as const;
    await using device = await SimulatedDevice.start({ build: oldBuild, fault });
    await using proxy = await RecordingProxy.start({ to: device.otaPort });
    await flash(targetOf(device, { port: proxy.port }));
    await proxy.until(([session]) => isClosed(session));
    expect(proxy.sessions).toMatchObject([{ sizeSeen: true, errorByte: 0x83, committed: false }]);
    expect(proxy.sessions[0]).not.toHaveProperty("imageDigest");
  });

  it("cuts what is open", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    await using proxy = await RecordingProxy.start({ to: device.otaPort, bytesPerSecond: 50_000 });
    const flashing = flash(targetOf(device, { port: proxy.port }));
    await proxy.until(([session]) => (session?.dataBytes ?? 0) > 10_000);
    proxy.cut();
    expect((await flashing).result).toMatchObject({ ok: false, failure: { kind: "upload-interrupted" } });
    await device.settled();
    expect(device.build).toEqual(oldBuild);
  });

  it("records in a process of its own, also what it saw before it was killed", async () => {
    const folder = await mkdtemp(join(tmpdir(), "flashyard-proxy-"));
    const record = join(folder, "record.jsonl");
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const script = new URL("../support/recording-proxy.ts", import.meta.url).pathname;
    const argv = [script, "--listen", "0", "--to", String(device.otaPort), "--record", record];
    const child = spawn(process.execPath, [...argv, "--bytes-per-second", "400000"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      const [line] = (await once(createInterface(child.stdout), "line")) as [string];
      const port = Number(line.replace("listening ", ""));
      expect((await flash(targetOf(device, { port }))).result.ok).toBe(true);
      await device.settled();
      const cutOff = flash(targetOf(device, { port }), {
        onEvent: (event) => {
          if (event.kind === "progress" && event.sentBytes > 30_000) child.kill("SIGKILL");
        },
      });
      expect((await cutOff).result.ok).toBe(false);
      expect(readRecord(record)).toMatchObject([
        { id: 1, sizeSeen: true, imageDigest: digest, committed: true },
        { id: 2, sizeSeen: true, committed: false },
      ]);
    } finally {
      child.kill("SIGKILL");
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("takes commands in a process of its own", async () => {
    await using device = await SimulatedDevice.start({ build: oldBuild });
    const script = new URL("../support/recording-proxy.ts", import.meta.url).pathname;
    const child = spawn(process.execPath, [script, "--to", String(device.otaPort)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      const [line] = (await once(createInterface(child.stdout), "line")) as [string];
      const port = Number(line.replace("listening ", ""));
      const cut = await flash(targetOf(device, { port }), {
        onEvent: (event) => {
          if (event.kind === "phase" && event.phase === "connecting") child.stdin.write("freeze\n");
          if (event.kind === "phase" && event.phase === "negotiating") child.stdin.write("cut\n");
        },
      });
      expect(cut.result).toMatchObject({ ok: false, failure: { kind: "upload-interrupted", effect: "none" } });
      child.stdin.write("thaw\nbytes-per-second 400000\n");
      expect((await flash(targetOf(device, { port }))).result.ok).toBe(true);
    } finally {
      child.kill("SIGKILL");
    }
  });
});
