/** What can happen to the farm. */
import type { ChainRequest } from "#protocol/admin.ts";
import type { Announcement } from "#protocol/agent.ts";
import type { Chain } from "#protocol/chain.ts";
import type { AgentId, BootId, ChainId, Configuration, JobName } from "#protocol/ids.ts";
import type { JobResult } from "#protocol/job.ts";
import type { RolloutAction } from "#protocol/rollout.ts";
import type { Seen } from "#coordinator/core/timing.ts";

/** Names the asker of an answer; made by the intake, used by the interpreter, opaque to the core. */
export type AnswerTo = number;

/** What a cancel is about. `jobs` absent: the whole chain. A chain that is named and not live changes nothing. */
export type CancelTarget =
  | { readonly kind: "chain"; readonly chain: ChainId; readonly jobs?: readonly JobName[] }
  | { readonly kind: "configuration"; readonly configuration: Configuration; readonly jobs?: readonly JobName[] }
  | { readonly kind: "all" };

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
  | {
      readonly kind: "cancel-asked";
      readonly of: CancelTarget;
      /** Also a flash over a port that has begun. */
      readonly isForced?: boolean;
      readonly answerTo: AnswerTo;
    }
  | {
      readonly kind: "rollout-asked";
      readonly id: ChainId;
      readonly action: RolloutAction;
      readonly answerTo: AnswerTo;
    }
  /** An agent hears a device. */
  | ({ readonly kind: "device-seen" } & Seen)
  /** `id` names the first chain that the request makes. */
  | {
      readonly kind: "clean-asked";
      readonly id: ChainId;
      readonly configuration: Configuration;
      readonly answerTo: AnswerTo;
    }
  | { readonly kind: "reset-asked"; readonly id: ChainId; readonly answerTo: AnswerTo }
  /** A person has looked at a device; `chain` is the record of the upload that ended as unknown, as the history has it. */
  | {
      readonly kind: "unknown-resolved";
      readonly chain: Chain;
      readonly isRunning: boolean;
      readonly answerTo: AnswerTo;
    }
  | ({ readonly kind: "job-claimed" } & FromAgent)
  | ({ readonly kind: "flash-claimed" } & FromAgent)
  | ({ readonly kind: "job-reported"; readonly result: JobResult } & FromAgent)
  | { readonly kind: "agent-announced"; readonly announcement: Announcement }
  | { readonly kind: "agent-vanished"; readonly agent: AgentId }
  /** The finished chain is in the history as `record` has it (left out: as it is); its live record may go. */
  | { readonly kind: "chain-archived"; readonly chain: ChainId; readonly record?: Chain }
  | { readonly kind: "time-passed" };
