import { jetstreamManager } from "@nats-io/jetstream";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Connection } from "#bus/connection.ts";
import { JobLogWriter, listenProgress, publishProgress, readJobLog } from "#bus/job-log.ts";
import { declareTopology } from "#bus/topology.ts";
import { UnavailableError } from "#protocol/errors.ts";
import type { ChainId } from "#protocol/ids.ts";
import { logBytesMax, logChunkBytes, logLineBytesMax } from "#protocol/limits.ts";
import { logSubject, streams } from "#protocol/names.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { agentNamed, chainNumber } from "#test/support/farm-builders.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const agent = agentNamed("build-1");

let server: TestServer;
let connection: Connection;
beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  await declareTopology(connection);
});
afterAll(() => server[Symbol.asyncDispose]());

async function chunksOf(chain: ChainId): Promise<number> {
  const manager = await jetstreamManager(connection);
  const subject = logSubject(agent, chain, "compile");
  const { state } = await manager.streams.info(streams.logs, { subjects_filter: subject });
  return state.subjects?.[subject] ?? 0;
}

async function linesOf(chain: ChainId): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const { line } of readJobLog(connection, chain, ["compile"])) lines.push(line);
  return lines;
}

test("lines are gathered into chunks of limited size, and come back in their order", async () => {
  const chain = chainNumber(1);
  const written = Array.from({ length: 1_000 }, (_, index) => `${index} ${"ü".repeat(60)}`);
  const writer = new JobLogWriter(connection, agent, chain, "compile");
  for (const line of written) writer.line(line);
  await writer.close();
  expect(await linesOf(chain)).toEqual(written);
  const bytes = Buffer.byteLength(written.join("\n"));
  const chunks = await chunksOf(chain);
  expect(chunks).toBeGreaterThanOrEqual(Math.floor(bytes / (logChunkBytes + logLineBytesMax)));
  expect(chunks).toBeLessThanOrEqual(Math.ceil(bytes / logChunkBytes));
});

test("a lone line is sent by its age, and whoever follows sees it before the job has ended", async () => {
  const chain = chainNumber(2);
  const writer = new JobLogWriter(connection, agent, chain, "compile");
  const seen = new Arrivals<string>("line");
  const abort = new AbortController();
  const following = (async () => {
    for await (const { job, line } of readJobLog(connection, chain, ["compile", "upload"], abort.signal))
      seen.push(`${job} ${line}`);
  })();
  writer.line("compiling");
  expect(await seen.next()).toBe("compile compiling");
  const upload = new JobLogWriter(connection, agent, chain, "upload");
  upload.line("flashing");
  await upload.close();
  expect(await seen.next()).toBe("upload flashing");
  abort.abort();
  await following;
  await writer.close();
});

test("both jobs of a chain replay together, in the order in which they were said", async () => {
  const chain = chainNumber(3);
  for (const job of ["compile", "upload"] as const) {
    const writer = new JobLogWriter(connection, agent, chain, job);
    writer.line(`${job} 1`);
    writer.line(`${job} 2`);
    await writer.close();
  }
  const said: string[] = [];
  for await (const { job, line } of readJobLog(connection, chain, ["compile", "upload"])) said.push(`${job}: ${line}`);
  expect(said).toEqual(["compile: compile 1", "compile: compile 2", "upload: upload 1", "upload: upload 2"]);
});

test("at its limit the log says that it ends, and takes no more", async () => {
  const chain = chainNumber(4);
  const writer = new JobLogWriter(connection, agent, chain, "compile");
  const line = "x".repeat(logLineBytesMax);
  const fitting = Math.ceil(logBytesMax / (line.length + 1));
  for (let i = 0; i < fitting + 100; i++) writer.line(line);
  await writer.close();
  const lines = await linesOf(chain);
  expect(lines).toHaveLength(fitting + 1);
  expect(lines.at(-1)).toBe(`[the log ends here: ${logBytesMax} bytes are its limit]`);
});

test("a job that has said nothing has no lines, and closing twice sends nothing more", async () => {
  const writer = new JobLogWriter(connection, agent, chainNumber(5), "compile");
  await writer.close();
  await writer.close();
  expect(await linesOf(chainNumber(5))).toEqual([]);
});

test("a log that cannot be stored never holds up the job; reading it without a server is unavailable", async () => {
  const cut = await server.connect();
  await cut.close();
  const writer = new JobLogWriter(cut, agent, chainNumber(6), "compile");
  writer.line("lost");
  await writer.close();
  await expect(readJobLog(cut, chainNumber(6), ["compile"]).next()).rejects.toThrow(UnavailableError);
});

test("progress reaches whoever listens, with the job that it is of; nonsense is passed over", async () => {
  const heard = new Arrivals<unknown>("progress");
  const listening = listenProgress(connection, (chain, job, progress) => heard.push([chain, job, progress]));
  await connection.flush();
  const chain = chainNumber(7);
  connection.publish(`fy.progress.${chain}.compile`, "nonsense");
  publishProgress(connection, agent, chain, "compile", { v: 1, phase: "compiling", percent: 40 });
  expect(await heard.next()).toEqual([chain, "compile", { v: 1, phase: "compiling", percent: 40 }]);
  listening.stop();
});
