/** Answers the CLI. Requests that change the farm become events; questions are answered from the farm as committed. */
import { type AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { withoutSecrets } from "#protocol/chain.ts";
import { decode } from "#protocol/envelope.ts";
import { messageOf } from "#protocol/errors.ts";
import { ChainId, jobRef } from "#protocol/ids.ts";
import type { Progress } from "#protocol/messages.ts";
import { adminSubject } from "#protocol/names.ts";
import { farmVersion } from "#protocol/version.ts";
import type { Connection } from "#bus/connection.ts";
import { type Call, serve } from "#bus/rpc.ts";
import type { Answers } from "#coordinator/answers.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { agentViews, explain, findChain, newestBuild, queueDepth } from "#coordinator/core/queries.ts";
import type { Interpreter } from "#coordinator/interpreter.ts";

export interface AdminPorts {
  readonly answers: Answers;
  readonly interpreter: Interpreter;
  readonly startedAt: number;
  farm(): Farm;
  now(): number;
  post(event: FarmEvent): boolean;
  progressOf(reference: string): Progress | undefined;
  /** Whether the chain was accepted before; a request repeated within ten minutes is told. */
  isKnown(chain: ChainId): boolean;
}

/** How far back a reference to a finished chain is looked for. */
const lookBackMax = 5_000;

export function serveAdmin(connection: Connection, ports: AdminPorts): { stop(): void } {
  return serve(connection, adminSubject, (call) => {
    const decoded = decode(AdminRequest, call.bytes);
    if (!decoded.ok) {
      call.answer({
        kind: "refused",
        code: "not-understood",
        message: `the request is invalid: ${decoded.error.message}`,
      });
      return;
    }
    answerRequest(ports, decoded.value, call).catch((error: unknown) => {
      call.answer({ kind: "refused", code: "unavailable", message: messageOf(error) });
    });
  });
}

async function answerRequest(ports: AdminPorts, request: AdminRequest, call: Call): Promise<void> {
  const farm = ports.farm();
  const answer = (body: AdminAnswer) => call.answer(body);
  switch (request.kind) {
    case "submit": {
      const chains = request.chains.filter(({ id }) => !ports.isKnown(id));
      if (chains.length === 0) {
        return answer({ kind: "accepted", chains: request.chains.map((chain) => chain.id), superseded: [] });
      }
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "chains-submitted", chains, answerTo }));
    }
    case "cancel": {
      const found = await find(ports, request.reference);
      if (found === undefined) return answer(notFound(request.reference));
      const jobs = found.job === undefined ? {} : { jobs: [found.job] };
      return postOrRefuse(ports, call, (answerTo) => ({
        kind: "cancel-asked",
        chain: found.chain.id,
        ...jobs,
        answerTo,
      }));
    }
    case "chains":
      return answer(await chainsAnswer(ports, request.ended, request.only));
    case "resolve": {
      const found = await find(ports, request.reference);
      return answer(
        found === undefined
          ? notFound(request.reference)
          : { kind: "resolved", ...found, chain: withoutSecrets(found.chain) },
      );
    }
    case "agents":
      return answer({ kind: "agents", agents: [...agentViews(farm)] });
    case "devices":
      return answer({ kind: "devices", devices: [...(await ports.interpreter.devices.all())] });
    case "explain": {
      const found = await find(ports, request.reference);
      if (found === undefined) return answer(notFound(request.reference));
      const isLive = farm.chains.has(found.chain.id);
      const withHistory: Farm = isLive ? farm : { ...farm, chains: new Map([[found.chain.id, found.chain]]) };
      return answer({
        kind: "explained",
        chain: found.chain.id,
        lines: [...explain(withHistory, found.chain.id, ports.now())],
      });
    }
    case "newest-build":
      return answer(await newestBuildAnswer(ports, request.reference));
    case "status":
      return answer({
        kind: "status",
        version: farmVersion,
        at: ports.now(),
        since: ports.startedAt,
        live: farm.chains.size,
        queueDepth: queueDepth(farm),
      });
  }
}

function postOrRefuse(ports: AdminPorts, call: Call, event: (answerTo: number) => FarmEvent): void {
  const answerTo = ports.answers.expect(call);
  if (!ports.post(event(answerTo))) {
    ports.answers.forget(answerTo);
    call.answer({ kind: "refused", code: "busy", message: "the coordinator has too much in its mailbox; try again" });
  }
}

function notFound(reference: string): AdminAnswer {
  return {
    kind: "refused",
    code: "not-found",
    message: `no chain, job or configuration is called ${JSON.stringify(reference)}`,
  };
}

async function chainsAnswer(ports: AdminPorts, ended: number, only?: readonly ChainId[]): Promise<AdminAnswer> {
  const { chains } = ports.farm();
  const { history } = ports.interpreter;
  if (only === undefined) {
    const live = [...chains.values()].map((chain) => viewOf(ports, chain));
    return { kind: "chains", live, ended: [...(await history.newest(ended))] };
  }
  const live = only.flatMap((id) => chains.get(id) ?? []).map((chain) => viewOf(ports, chain));
  const others = await Promise.all(only.filter((id) => !chains.has(id)).map((id) => history.get(id)));
  return { kind: "chains", live, ended: others.filter((chain) => chain !== undefined) };
}

async function newestBuildAnswer(ports: AdminPorts, reference: string): Promise<AdminAnswer> {
  const live = [...ports.farm().chains.values()];
  const found =
    newestBuild(live, reference) ?? newestBuild(await ports.interpreter.history.newest(lookBackMax), reference);
  if (found?.compile?.outcome?.kind !== "built") {
    const message = `no build of ${JSON.stringify(reference)} has succeeded yet`;
    return { kind: "refused", code: "not-found", message };
  }
  return {
    kind: "newest-build",
    chain: found.id,
    configuration: found.configuration,
    manifest: found.compile.outcome.manifest,
    builtAt: found.compile.endedAt ?? found.createdAt,
  };
}

function viewOf(ports: AdminPorts, chain: Chain) {
  const running = [chain.upload, chain.compile].find((job) => job?.state === "running");
  const progress = running === undefined ? undefined : ports.progressOf(jobRef(chain.id, running.name));
  return { chain: withoutSecrets(chain), ...(progress === undefined ? {} : { progress }) };
}

async function find(ports: AdminPorts, reference: string) {
  const live = findChain([...ports.farm().chains.values()], reference);
  if (live !== undefined) return live;
  // A chain's id is found without reading the whole history, which whoever follows a chain relies on.
  const id = ChainId.safeParse(reference.replace(/\.(compile|upload)$/, ""));
  const ended = id.success ? await ports.interpreter.history.get(id.data) : undefined;
  return (
    findChain(ended === undefined ? [] : [ended], reference) ??
    findChain(await ports.interpreter.history.newest(lookBackMax), reference)
  );
}
