/** Answers the CLI. Requests that change the farm become events; questions are answered from the farm as committed. */
import { type AdminAnswer, AdminRequest } from "#protocol/admin.ts";
import type { Chain } from "#protocol/chain.ts";
import { withoutSecrets } from "#protocol/chain.ts";
import { decode } from "#protocol/envelope.ts";
import { messageOf } from "#protocol/errors.ts";
import { jobRef } from "#protocol/ids.ts";
import type { Progress } from "#protocol/messages.ts";
import { adminSubject } from "#protocol/names.ts";
import { farmVersion } from "#protocol/version.ts";
import type { Connection } from "#bus/connection.ts";
import { type Call, serve } from "#bus/rpc.ts";
import type { Answers } from "#coordinator/answers.ts";
import type { FarmEvent } from "#coordinator/core/events.ts";
import type { Farm } from "#coordinator/core/farm.ts";
import { agentViews, explain, findChain, queueDepth } from "#coordinator/core/queries.ts";
import type { Interpreter } from "#coordinator/interpreter.ts";

export interface AdminPorts {
  readonly answers: Answers;
  readonly interpreter: Interpreter;
  readonly startedAt: number;
  farm(): Farm;
  now(): number;
  post(event: FarmEvent): boolean;
  progressOf(reference: string): Progress | undefined;
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
    case "submit":
      return postOrRefuse(ports, call, (answerTo) => ({ kind: "chains-submitted", chains: request.chains, answerTo }));
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
      return answer({
        kind: "chains",
        live: [...farm.chains.values()].map((chain) => viewOf(ports, chain)),
        ended: [...(await ports.interpreter.history.newest(request.ended))],
      });
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
      return answer({ kind: "devices", devices: [...(await ports.interpreter.devices.newest(lookBackMax))] });
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
    case "status":
      return answer({
        kind: "status",
        version: farmVersion,
        since: ports.startedAt,
        live: farm.chains.size,
        queueDepth: queueDepth(farm),
      });
  }
}

function postOrRefuse(ports: AdminPorts, call: Call, event: (answerTo: number) => FarmEvent): void {
  if (!ports.post(event(ports.answers.expect(call)))) {
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

function viewOf(ports: AdminPorts, chain: Chain) {
  const running = [chain.upload, chain.compile].find((job) => job?.state === "running");
  const progress = running === undefined ? undefined : ports.progressOf(jobRef(chain.id, running.name));
  return { chain: withoutSecrets(chain), ...(progress === undefined ? {} : { progress }) };
}

async function find(ports: AdminPorts, reference: string) {
  const live = findChain([...ports.farm().chains.values()], reference);
  return live ?? findChain(await ports.interpreter.history.newest(lookBackMax), reference);
}
