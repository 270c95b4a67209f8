/** What a process's log shows of what is logged. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";

async function logged(expression: string): Promise<Record<string, unknown>> {
  const script = `import { createLog } from "#actor/log.ts"; createLog({ role: "test" }).warn(${expression}, "said");`;
  const argv = [process.execPath, "--input-type=module", "--eval", script];
  const lines: string[] = [];
  const { end } = await runProcess({
    argv,
    cwd: join(import.meta.dirname, "../.."),
    env: plainEnvironment(),
    onLine: (line) => lines.push(line),
  });
  expect(end).toEqual({ kind: "exited", exitCode: 0 });
  return JSON.parse(lines.findLast((line) => line.startsWith("{")) ?? "") as Record<string, unknown>;
}

test("no secret of a device or of credentials is logged, however deep it lies", async () => {
  const shown = await logged(`{
    password: "hunter2",
    dispatch: { target: { kind: "serial", network: { host: "lamp", password: "hunter2", api: { port: 1, encryptionKey: "hunter2" } } } },
    requests: [{ upload: { target: { encryptionKey: "hunter2" } } }],
    credentials: { seed: "hunter2", unseal: "hunter2", token: "hunter2" },
  }`);
  expect(JSON.stringify(shown)).not.toContain("hunter2");
  expect(shown).toMatchObject({
    role: "test",
    msg: "said",
    dispatch: { target: { network: { host: "lamp", password: "[hidden]", api: { port: 1 } } } },
  });
});

test("an error is logged with its code and its stack, and a circle does not end the log", async () => {
  expect(await logged(`{ err: Object.assign(new Error("away"), { code: "E1" }), at: new Date(0) }`)).toMatchObject({
    err: { message: "away", code: "E1", stack: expect.stringContaining("Error: away") as string },
    at: "1970-01-01T00:00:00.000Z",
  });
  expect(await logged(`(() => { const circle = {}; circle.circle = circle; return { circle }; })()`)).toMatchObject({
    msg: "said",
  });
});
