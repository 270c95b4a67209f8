/** Pairing over a real server: the line, the words, the approval, and what a machine says to whom. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { hashOfCode, newInvitationId, newJoinCode } from "#bus/identity/join-code.ts";
import { candidateIn } from "#bus/identity/candidate.ts";
import { pinOf } from "#bus/identity/authority.ts";
import { readCredentials } from "#bus/identity/credentials.ts";
import { farmOf } from "#bus/identity/identity-folder.ts";
import { askToJoin, connectAsStranger, farmBehind } from "#bus/identity/joining.ts";
import { signIn } from "#bus/identity/sign-in.ts";
import { announce } from "#bus/presence.ts";
import type { Connection } from "#bus/connection.ts";
import { type JoinLine, joinLineOf, readJoinLine } from "#protocol/join-line.ts";
import { wrongTriesMax } from "#protocol/limits.ts";
import { agentNamed, statementOf } from "#test/support/farm-builders.ts";
import { IdentifiedFarm } from "#test/support/identified-farm.ts";

const withinMs = 8_000;

let farm: IdentifiedFarm;
let strangers: Connection[];
beforeEach(async () => {
  farm = await IdentifiedFarm.start();
  strangers = [];
});
afterEach(async () => {
  await Promise.all(strangers.map((connection) => connection.close()));
  await farm[Symbol.asyncDispose]();
});

/** What `agent pair` has printed, without the command before it. */
async function lineFrom(...options: readonly string[]): Promise<string> {
  const { out, code } = await farm.cli("agent", "pair", ...options);
  expect(code).toBe(0);
  return / (fyj1\.\S+)/.exec(out)?.[1] ?? "";
}

/** Joins with a code, as a machine with keys of its own. */
async function machine(line: JoinLine, name: string) {
  const connection = await connectAsStranger(line);
  strangers.push(connection);
  const wish = { agent: agentNamed(name), lane: "compile" as const, host: "pi" };
  const candidate = await candidateIn(join(farm.folder, `machine-${strangers.length}`), line, wish);
  return { candidate, join: () => askToJoin(connection, line, candidate), connection };
}

async function line(validMs = 900_000): Promise<JoinLine> {
  const code = newJoinCode();
  const asked = { id: newInvitationId(), hash: hashOfCode(code), validMs, isUnattended: false };
  await farm.ask("invitation-made", { v: 1, kind: "make-invitation", ...asked });
  return { servers: farm.url, pin: pinOf(farm.keys), code };
}

const home = (name: string) => join(farm.folder, "agents", name);
const joining = (text: string, name: string) =>
  farm.cli("agent", "join", text, "--compile", "--name", name, "--home", home(name));

/** Until a machine waits, and its words as the admin sees them. */
function waiting(name: string): Promise<string> {
  return vi.waitFor(async () => {
    const { out } = await farm.cli("agent", "ls", "--json");
    const found = out.split("\n").find((row) => row.includes('"guest"') && row.includes(`"${name}"`));
    return (JSON.parse(found ?? "") as { readonly words: string }).words;
  }, withinMs);
}

test("a machine joins with the line, both sides show the same words, and it signs in when it is approved", async () => {
  const joined = joining(await lineFrom("--compile"), "attic");
  const words = await waiting("attic");
  expect(words.split(" ")).toHaveLength(4);
  const approved = await farm.cli("agent", "approve", ...words.split(" "));
  expect(approved).toMatchObject({ code: 0, out: expect.stringContaining(`is paired for the compile lane: ${words}`) });
  const { out, err, code } = await joined;
  expect([code, err]).toEqual([0, expect.stringContaining(`this machine is: ${words}`)]);
  expect(out).toContain("compile-agent/main.ts");
  const path = join(home("attic"), "credentials.json");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  const credentials = await readCredentials(path);
  expect(credentials).toMatchObject({ role: { kind: "agent", agent: "attic", lane: "compile" }, servers: farm.url });
  const { pin, seal } = await farmOf(farm.keys);
  expect(credentials?.farm).toMatchObject({ pin, seal });
  const { connection } = await signIn({ path, name: "attic" });
  strangers.push(connection);
  await vi.waitFor(async () => {
    announce(connection, statementOf("attic", "compile"));
    const { agents } = await farm.ask("agents", { v: 1, kind: "agents" });
    expect(agents.map(({ announcement }) => announcement.agent)).toContain("attic");
  }, withinMs);
  expect((await farm.cli("agent", "ls")).out).toMatch(/attic +compile +paired .* by ann; token until 20/);
  // Its folder is taken: it may join another farm with another one.
  const again = await joining(await lineFrom(), "attic");
  expect(again).toMatchObject({ code: 2, err: expect.stringContaining("--home") });
});

test("a machine that is turned away is told so, and has no credentials", async () => {
  const joined = joining(await lineFrom(), "attic");
  await waiting("attic");
  expect((await farm.cli("agent", "reject", "attic")).code).toBe(0);
  expect(await joined).toMatchObject({ code: 2, err: expect.stringContaining("turned this machine away") });
  expect(await readCredentials(join(home("attic"), "credentials.json"))).toBeUndefined();
  const nobody = await farm.cli("agent", "approve", "attic");
  expect(nobody).toMatchObject({ code: 2, err: expect.stringContaining("none waits") });
});

test("with a line that was made with --yes nobody has to approve", async () => {
  const { code, out } = await joining(await lineFrom("--yes"), "attic");
  expect([code, out]).toEqual([0, expect.stringContaining("attic has joined")]);
  expect((await farm.cli("agent", "ls")).out).toContain("by its code alone");
});

test("a machine that waits is let in by the next coordinator, which knows the codes, open and used", async () => {
  const [first, second] = [await line(), await line()];
  const attic = await machine(first, "attic");
  expect(await attic.join()).toMatchObject({ kind: "waiting" });
  await farm.replaceCoordinator();
  expect(await attic.join()).toMatchObject({ kind: "waiting" });
  expect((await farm.cli("agent", "approve", "attic")).code).toBe(0);
  await farm.replaceCoordinator();
  expect(await attic.join()).toMatchObject({ kind: "joined" });
  const cellar = await machine(second, "cellar");
  expect(await cellar.join()).toMatchObject({ kind: "waiting" });
});

test("a code is for one machine, for its time, and after ten wrong ones for nobody", async () => {
  const [one, short] = [await line(), await line(60_000)];
  expect(await (await machine(one, "attic")).join()).toMatchObject({ kind: "waiting" });
  expect(await (await machine(one, "cellar")).join()).toMatchObject({ kind: "refused", code: "used" });
  farm.clock.jump(61_000);
  expect(await (await machine(short, "cellar")).join()).toMatchObject({ kind: "refused", code: "expired" });
  const last = await line();
  for (let n = 0; n < wrongTriesMax; n++) {
    const wrong = await machine({ ...last, code: newJoinCode() }, "thief");
    expect(await wrong.join()).toMatchObject({ kind: "refused", code: "wrong-code" });
  }
  await farm.replaceCoordinator();
  expect(await (await machine(last, "cellar")).join()).toMatchObject({ kind: "refused", code: "locked" });
  expect(await (await machine(await line(), "cellar")).join()).toMatchObject({ kind: "waiting" });
});

test("a code is only believed with keys that are the asker's own", async () => {
  const good = await line();
  const attic = await machine(good, "attic");
  const thief = await machine(good, "thief");
  const stolen = { ...thief.candidate, identity: { ...thief.candidate.identity, user: attic.candidate.identity.user } };
  expect(await askToJoin(thief.connection, good, stolen)).toMatchObject({ kind: "refused", code: "bad-signature" });
  const none = { ...thief.candidate.identity, user: `U${"A".repeat(55)}` };
  const unsigned = askToJoin(thief.connection, good, { ...thief.candidate, identity: none });
  expect(await unsigned).toMatchObject({ kind: "refused", code: "bad-signature" });
  expect(await attic.join()).toMatchObject({ kind: "waiting" });
});

test("another farm at the address is told nothing but that somebody asks who it is", async () => {
  await using other = await IdentifiedFarm.start();
  const said: string[] = [];
  const listener = await other.signIn({ kind: "coordinator" });
  listener.subscribe("fy.pair", { callback: (_error, message) => void said.push(message.string()) });
  await listener.flush();
  const { code } = readJoinLine(await lineFrom()) ?? { code: "" };
  const text = joinLineOf({ servers: other.url, pin: pinOf(farm.keys), code });
  const end = await joining(text, "attic");
  expect(end).toMatchObject({ code: 2, err: expect.stringContaining("is not the farm that the line is for") });
  await listener.flush();
  expect(said.map((one) => (JSON.parse(one) as { readonly kind: string }).kind)).toEqual(["introduce"]);
  expect(said.join()).not.toContain(code);
});

test("a farm that shows another farm's certificate cannot sign with its key", async () => {
  await using liar = await IdentifiedFarm.start();
  await liar.stopCoordinator();
  const { authority, seal } = await farmOf(farm.keys);
  const signature = "A".repeat(86);
  const answerer = await liar.signIn({ kind: "coordinator" });
  answerer.subscribe("fy.pair", {
    callback: (_error, message) =>
      void message.respond(JSON.stringify({ v: 1, kind: "farm", authority, seal, signature })),
  });
  await answerer.flush();
  const stranger = await connectAsStranger({ servers: liar.url, pin: pinOf(farm.keys) });
  strangers.push(stranger);
  await expect(farmBehind(stranger, pinOf(farm.keys))).rejects.toMatchObject({ code: "wrong-farm" });
});

test("over TLS the server's certificate is checked before anything else: its pin, and its name", async () => {
  await using secured = await IdentifiedFarm.start(["127.0.0.1"]);
  const pin = pinOf(secured.keys);
  const good = await connectAsStranger({ servers: secured.url, pin });
  strangers.push(good);
  expect((await farmBehind(good, pin)).pin).toBe(pin);
  const wrongPin = connectAsStranger({ servers: secured.url, pin: pinOf(farm.keys) });
  await expect(wrongPin).rejects.toMatchObject({ code: "wrong-farm" });
  const wrongName = connectAsStranger({ servers: secured.url.replace("127.0.0.1", "localhost"), pin });
  await expect(wrongName).rejects.toMatchObject({ code: "no-server" });
});

test("what is no line is refused before anything is done", async () => {
  for (const text of ["hello", "fyj1.", "fyj1.e30", (await lineFrom()).slice(0, -20)]) {
    const end = await joining(text, "attic");
    expect(end).toMatchObject({ code: 2, err: expect.stringContaining("is missing") });
  }
});
