/**
 * A container engine for the tests: the one that DOCKER_HOST names or that listens at its usual place, otherwise a `dockerd` of our own with
 * its folders in the tests' cache, so that the images of one run are there for the next.
 *
 * 1. Only an engine that was started here is ended, by its process.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, open, readFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { poll, systemClock } from "#actor/clock.ts";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { testCacheFolder } from "#test/support/real-device.ts";

const usualSocket = "/var/run/docker.sock";
/** It looks through its store first, and a machine with two processors may have other work. */
const startMsMax = 60_000;
const endMsMax = 30_000;

/** Sets what testcontainers reads. @throws Error when there is no engine and none can be started */
export async function containerEngine(): Promise<AsyncDisposable> {
  // Its reaper is an image that would have to be fetched; everything here is ended by who started it.
  process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true";
  if (process.env["DOCKER_HOST"] !== undefined) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  if (existsSync(usualSocket) && (await answers(usualSocket))) {
    process.env["DOCKER_HOST"] = `unix://${usualSocket}`;
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  return ownEngine(join(testCacheFolder, "engine"));
}

async function ownEngine(folder: string): Promise<AsyncDisposable> {
  await mkdir(folder, { recursive: true });
  const [socket, pidFile, logFile] = ["docker.sock", "docker.pid", "docker.log"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const hadBridge = existsSync("/sys/class/net/docker0");
  const log = await open(logFile, "w");
  const child = spawn(
    "dockerd",
    [
      `--host=unix://${socket}`,
      `--data-root=${join(folder, "data")}`,
      `--exec-root=${join(folder, "exec")}`,
      `--pidfile=${pidFile}`,
      "--log-level=warn",
    ],
    { env: plainEnvironment(), stdio: ["ignore", log.fd, log.fd] },
  );
  const failed = once(child, "error").then(([error]) => error as Error);
  const ended = once(child, "exit");
  const limits = { everyMs: 100, withinMs: startMsMax };
  const isUp = await Promise.race([
    poll(systemClock, limits, async () => ((await answers(socket)) ? true : undefined)),
    Promise.race([failed, ended]).then(() => false),
  ]);
  await log.close();
  if (isUp !== true) {
    child.kill("SIGKILL");
    throw new Error(
      `no container engine can be started (it needs root, and Debian's docker.io):\n${await tailOf(logFile)}`,
    );
  }
  process.env["DOCKER_HOST"] = `unix://${socket}`;
  return {
    async [Symbol.asyncDispose]() {
      delete process.env["DOCKER_HOST"];
      child.kill("SIGTERM");
      const late = AbortSignal.timeout(endMsMax);
      late.addEventListener("abort", () => child.kill("SIGKILL"));
      await ended;
      // It leaves its own bridge behind, which nobody uses.
      const argv = ["ip", "link", "delete", "docker0"];
      if (!hadBridge) await runProcess({ argv, env: plainEnvironment(), totalMs: 5_000 });
    },
  };
}

async function tailOf(path: string): Promise<string> {
  return (await readFile(path, "utf8")).split("\n").slice(-10).join("\n");
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: "/_ping", timeout: 2_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.on("error", () => resolve(false));
    asked.on("timeout", () => asked.destroy(new Error("no answer")));
    asked.end();
  });
}
