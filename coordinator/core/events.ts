/** What can happen to the farm. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { AgentId, BootId, ChainId, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";

/** Names the asker of an answer; made by the intake, used by the interpreter, opaque to the core. */
export type AnswerTo = number;

interface FromAgent {
  readonly agent: AgentId;
  readonly boot: BootId;
  readonly chain: ChainId;
  readonly job: JobName;
  readonly attempt: number;
  readonly answerTo: AnswerTo;
}

export type FarmEvent =
  | { readonly kind: "chains-submitted"; readonly chains: readonly ChainRequest[]; readonly answerTo: AnswerTo }
  /** `jobs` absent: the whole chain. */
  | {
      readonly kind: "cancel-asked";
      readonly chain: ChainId;
      readonly jobs?: readonly JobName[];
      readonly answerTo: AnswerTo;
    }
  | ({ readonly kind: "job-claimed" } & FromAgent)
  | ({ readonly kind: "flash-claimed" } & FromAgent)
  | ({ readonly kind: "job-reported"; readonly result: JobResult } & FromAgent)
  | { readonly kind: "agent-announced"; readonly announcement: Announcement }
  | { readonly kind: "agent-vanished"; readonly agent: AgentId }
  /** The finished chain is in the history; its live record may go. */
  | { readonly kind: "chain-archived"; readonly chain: ChainId }
  | { readonly kind: "time-passed" };
