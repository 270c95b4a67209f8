import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import type { Call } from "#actor/coordinator-ports.ts";
import type { Connection } from "#bus/connection.ts";
import { listen, request, serve } from "#bus/rpc.ts";
import { encode } from "#protocol/envelope.ts";
import { UnavailableError, WireError } from "#protocol/errors.ts";
import { Arrivals } from "#test/support/arrivals.ts";
import { testServer, type TestServer } from "#test/support/nats-server.ts";

const Text = z.object({ text: z.string() });
let server: TestServer;
let connection: Connection;
let other: Connection;
beforeAll(async () => {
  server = await testServer();
  connection = await server.connect();
  other = await server.connect();
});
afterAll(() => server[Symbol.asyncDispose]());

test("a request is answered on its subject, in the order of arrival", async () => {
  const served = serve(connection, "test.echo.*", (call) =>
    call.answer({ text: `${call.subject} ${call.bytes.length}` }),
  );
  await connection.flush();
  const answers = await Promise.all(["a", "b"].map((to) => request(other, `test.echo.${to}`, {}, Text, 2_000)));
  expect(answers).toEqual([{ text: "test.echo.a 2" }, { text: "test.echo.b 2" }]);
  served.stop();
  await connection.flush();
  const ended = await request(other, "test.echo.a", {}, Text, 2_000).catch((error: unknown) => error);
  expect(ended).toMatchObject({ code: "no-responders" });
});

test("nobody, nobody in time and nothing understandable are told apart", async () => {
  const refusal = (subject: string, ms = 2_000) =>
    request(other, subject, {}, Text, ms).catch((error: unknown) => error);
  const calls: Call[] = [];
  const services = [
    serve(connection, "test.silent", (call) => calls.push(call)),
    serve(connection, "test.strange", (call) => call.answer({ text: 7 })),
  ];
  await connection.flush();
  const nobody = await refusal("test.nobody");
  expect(nobody).toBeInstanceOf(UnavailableError);
  expect(nobody).toMatchObject({ code: "no-responders" });
  const late = await refusal("test.silent", 30);
  expect(late).toBeInstanceOf(UnavailableError);
  expect(late).toMatchObject({ code: "timeout" });
  // The caller has given up; a late answer is harmless.
  calls[0]?.answer({ text: "late" });
  await connection.flush();
  expect(await refusal("test.strange")).toBeInstanceOf(WireError);
  for (const service of services) service.stop();
});

test("a listener hears what is published and answers nothing", async () => {
  const heard = new Arrivals<string>("message");
  const listening = listen(connection, "test.said.*", (bytes, subject) => heard.push(`${subject} ${bytes.length}`));
  await connection.flush();
  other.publish("test.said.a", encode({}));
  expect(await heard.next()).toBe("test.said.a 2");
  listening.stop();
});
