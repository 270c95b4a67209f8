/** Two coordinators as processes, on a real nats-server. */
import { connect as connectSocket, createServer, type Server, type Socket } from "node:net";
import { expect, test, vi } from "vitest";
import { systemClock } from "#actor/clock.ts";
import type { Connection } from "#bus/connection.ts";
import { AdminAnswer, type AdminRequest } from "#protocol/admin.ts";
import { decode, encode } from "#protocol/envelope.ts";
import { adminSubject } from "#protocol/names.ts";
import { CoordinatorProcess } from "#test/support/coordinator-process.ts";
import { buildRequest, chainNumber } from "#test/support/farm-builders.ts";
import { testServer } from "#test/support/nats-server.ts";

/** What the design grants a takeover. */
const takeOverMsMax = 10_000;
const inbox = "test.answers";

/** Asks and keeps every answer that ever comes, also the second one to the same question. */
class Questioner {
  readonly #link: Connection;
  readonly #answers: AdminAnswer[][] = [];

  constructor(link: Connection) {
    this.#link = link;
    link.subscribe(`${inbox}.*`, {
      callback: (_error, { subject, data }) => {
        const decoded = decode(AdminAnswer, data);
        if (decoded.ok) this.#answers[Number(subject.split(".").at(-1))]?.push(decoded.value);
      },
    });
  }

  /** Asks again and again until somebody answers. */
  async ask(request: AdminRequest): Promise<AdminAnswer> {
    return vi.waitFor(
      async () => {
        const answers = this.#put(request);
        await vi.waitFor(() => expect(answers).not.toEqual([]), { timeout: 400, interval: 5 });
        return answers[0]!;
      },
      { timeout: takeOverMsMax, interval: 5 },
    );
  }

  /** Since when the one that answers reigns. */
  async since(): Promise<number> {
    const answer = await this.ask({ v: 1, kind: "status" });
    if (answer.kind !== "status") throw new Error(`no status: ${JSON.stringify(answer)}`);
    return answer.since;
  }

  get mostToOneQuestion(): number {
    return Math.max(...this.#answers.map(({ length }) => length));
  }

  /** Reigns that have answered the questions from this one on. */
  reigns(from: number): readonly number[] {
    const since = this.#answers.slice(from).flatMap((all) => all.map((one) => (one.kind === "status" ? one.since : 0)));
    return [...new Set(since)].filter((instant) => instant > 0);
  }

  get asked(): number {
    return this.#answers.length;
  }

  #put(request: AdminRequest): AdminAnswer[] {
    const answers: AdminAnswer[] = [];
    this.#answers.push(answers);
    this.#link.publish(adminSubject, encode(request), { reply: `${inbox}.${this.#answers.length - 1}` });
    return answers;
  }
}

/** A network between one process and the server that can stop carrying anything, without telling anybody. */
class Cable implements AsyncDisposable {
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  #isCut = false;

  private constructor(port: number) {
    this.#server = createServer((near) => {
      const far = connectSocket(port, "127.0.0.1");
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("error", () => socket.destroy());
      }
      near.on("data", (bytes) => void (this.#isCut || far.write(bytes)));
      far.on("data", (bytes) => void (this.#isCut || near.write(bytes)));
    });
  }

  static async to(port: number): Promise<Cable> {
    const cable = new Cable(port);
    await new Promise<void>((resolve) => void cable.#server.listen(0, "127.0.0.1", resolve));
    return cable;
  }

  get url(): string {
    const address = this.#server.address();
    return `nats://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  }

  cut(): void {
    this.#isCut = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function elapsedMs(work: () => Promise<unknown>): Promise<number> {
  const from = systemClock.monotonic();
  await work();
  return systemClock.monotonic() - from;
}

test.concurrent("the standby takes over from a paused one, which then stands by itself, and leads again when the other is killed", async () => {
  await using server = await testServer();
  const user = new Questioner(await server.connect("user"));
  await using first = new CoordinatorProcess("the first", server.url);
  await first.says("coordinator ready");
  await using second = new CoordinatorProcess("the second", server.url);
  await second.says(`/${first.pid} leads`);
  const before = await user.since();

  first.signal("SIGSTOP");
  const paused = await elapsedMs(async () => {
    expect(await user.since()).toBeGreaterThan(before);
  });
  expect(paused).toBeLessThan(takeOverMsMax);
  const accepted = await user.ask({ v: 1, kind: "submit", chains: [buildRequest(1)] });
  expect(accepted).toMatchObject({ kind: "accepted", chains: [chainNumber(1)] });

  const woken = user.asked;
  first.signal("SIGCONT");
  await first.says(`/${second.pid} leads`);
  const present = await user.since();
  expect(user.reigns(woken)).toEqual([present]);
  expect(user.reigns(0)).toEqual([before, present]);
  expect(user.mostToOneQuestion).toBe(1);

  second.signal("SIGKILL");
  const killed = await elapsedMs(async () => {
    const status = await user.ask({ v: 1, kind: "status" });
    expect(status).toMatchObject({ kind: "status", live: 1 });
  });
  expect(killed).toBeLessThan(takeOverMsMax);
  expect(first.count("coordinator ready")).toBe(2);
});

test.concurrent("the standby takes over from one that is cut off, and at once from one that is told to stop", async () => {
  await using server = await testServer();
  const user = new Questioner(await server.connect("user"));
  await using cable = await Cable.to(Number(new URL(server.url).port));
  await using first = new CoordinatorProcess("the first", cable.url);
  await first.says("coordinator ready");
  await using second = new CoordinatorProcess("the second", server.url);
  await second.says(`/${first.pid} leads`);
  const before = await user.since();
  cable.cut();
  const cut = await elapsedMs(async () => {
    expect(await user.since()).toBeGreaterThan(before);
  });
  expect(cut).toBeLessThan(takeOverMsMax);
  await first.says("the lease is lost");

  await using third = new CoordinatorProcess("the third", server.url);
  await third.says(`/${second.pid} leads`);
  second.signal("SIGTERM");
  const stopped = await elapsedMs(() => third.says("coordinator ready"));
  expect(stopped).toBeLessThan(3_000);
  expect(await second.end()).toBe(0);
});

test.concurrent("after a restart of the server, which has forgotten the lease, one of the two leads", async () => {
  await using server = await testServer();
  const user = new Questioner(await server.connect("user"));
  await using first = new CoordinatorProcess("the first", server.url);
  await first.says("coordinator ready");
  await using second = new CoordinatorProcess("the second", server.url);
  await second.says(`/${first.pid} leads`);
  await user.ask({ v: 1, kind: "submit", chains: [buildRequest(1)] });
  await server.kill();
  await server.restart();
  await Promise.race([first.says("coordinator ready"), second.says("coordinator ready")]);
  const from = user.asked;
  expect(await user.ask({ v: 1, kind: "status" })).toMatchObject({ kind: "status", live: 1 });
  expect(user.reigns(from)).toHaveLength(1);
  expect(user.mostToOneQuestion).toBe(1);
  expect(first.count("coordinator ready") + second.count("coordinator ready")).toBe(2);
});
