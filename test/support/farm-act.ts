/** What a command of the model works with: the farm, what it has promised, and numbers to choose by. */
import type { AdminRequest } from "#protocol/admin.ts";
import type { JobResult } from "#protocol/job.ts";
import type { CommandedFarm } from "#test/support/commanded-farm.ts";
import { bootNumber, chainNumber } from "#test/support/farm-builders.ts";
import type { Asker, FarmPromises } from "#test/support/farm-promises.ts";
import { bootOf, type PuppetAgent, type Task } from "#test/support/puppet-agent.ts";

/** Numbers mean a chain, job or agent only when the command runs. */
export interface Choice {
  readonly pick: number;
  readonly other: number;
  /** Something near what fits: another attempt, boot, agent or job, a request that was made before. */
  readonly isOdd: boolean;
  /** Nobody waits for the answer. */
  readonly isThrownAway: boolean;
}

export class FarmAct {
  readonly promises: FarmPromises;
  readonly farm: CommandedFarm;
  readonly choice: Choice;

  constructor(promises: FarmPromises, farm: CommandedFarm, choice: Choice) {
    this.promises = promises;
    this.farm = farm;
    this.choice = choice;
  }

  /** Asks as a user does. */
  async ask(request: AdminRequest): Promise<void> {
    const { isThrownAway } = this.choice;
    this.promises.note(`  ${isThrownAway ? "asks, not listening:" : "asks:"} ${inShort(request)}`);
    if (!isThrownAway) return this.promises.answered(await this.farm.ask(request));
    this.farm.throwAway(request);
    await this.farm.settled();
  }

  /** Speaks in the name of an attempt. @returns undefined when nobody waits for the answer */
  async say(asker: Asker, what: "claim" | "flash-claim" | JobResult): Promise<"go" | "drop" | "noted" | undefined> {
    const { agent, ...identity } = asker;
    const puppet = this.farm.puppets.find(({ id }) => id === agent)!;
    const ask =
      typeof what === "string"
        ? { v: 1 as const, kind: what, ...identity }
        : { v: 1 as const, kind: "report" as const, result: what, ...identity };
    const words = `${agent}/${asker.boot} says ${typeof what === "string" ? what : what.kind} of ${asker.chain}.${asker.job}.${asker.attempt}`;
    if (this.choice.isThrownAway) {
      this.promises.note(`  ${words}, not listening`);
      this.farm.throwAwayAs(puppet, ask);
      await this.farm.settled();
      return undefined;
    }
    const { verdict } = await this.farm.askAs(puppet, ask);
    this.promises.note(`  ${words}: ${verdict}`);
    return verdict;
  }

  /** One of the tasks at a stage that this boot of its agent can go on with. */
  task(...stages: readonly Task["stage"][]): Task | undefined {
    const tasks = this.farm.puppets.flatMap((puppet) => puppet.tasksAt(...stages));
    return picked(tasks, this.choice.pick);
  }

  /** An attempt of which nobody has heard. */
  get stranger(): Asker {
    return {
      agent: this.puppet(this.choice.pick).id,
      boot: bootNumber(1),
      chain: chainNumber(0),
      job: "upload",
      attempt: 1,
    };
  }

  puppet(index: number): PuppetAgent {
    return picked(this.farm.puppets, index)!;
  }
}

export function picked<T>(from: readonly T[], pick: number): T | undefined {
  return from[pick % Math.max(1, from.length)];
}

export function askerOf(task: Task): Asker {
  const { chain, job, attempt } = task.dispatch;
  return { agent: task.agent, boot: bootOf(task), chain, job, attempt };
}

function inShort(request: AdminRequest): string {
  if (request.kind !== "submit") return JSON.stringify(request);
  return request.chains.map(({ kind, id, configuration }) => `${kind} ${id} of ${configuration}`).join(", ");
}
