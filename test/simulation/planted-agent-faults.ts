/** Mistakes that an agent could make, each planted around the production `LaneWorker` from outside. */
import type { Attempt, JobHandler, Link } from "#actor/lane-worker.ts";
import type { ResultSpool } from "#actor/result-spool.ts";
import type { SimulatedProcess } from "#test/simulation/simulated-process.ts";

/** What a test puts in the place of the sound parts of every agent. */
export interface AgentFault {
  readonly handler?: (sound: JobHandler, process: SimulatedProcess) => JobHandler;
  readonly link?: (sound: Link) => Link;
  readonly spool?: (sound: ResultSpool) => ResultSpool;
}

function withAttempt(change: (sound: Attempt, process: SimulatedProcess) => Partial<Attempt>): AgentFault {
  return {
    handler: (sound, process) => (dispatch, attempt) => sound(dispatch, { ...attempt, ...change(attempt, process) }),
  };
}

/** The first byte leaves without anybody's word. */
export const flashesWithoutAClaim: AgentFault = withAttempt(() => ({
  claimFlash: () => Promise.resolve("go"),
  mayStart: () => true,
}));

/** Between the coordinator's word and the first byte, e.g. at a slow disk. */
const dawdleMs = 40_000;

/** Takes its time after the coordinator's word for a flash, and then does not mind how old that is. */
export const startsOnOldClaims: AgentFault = withAttempt((sound, process) => ({
  claimFlash: async () => {
    const verdict = await sound.claimFlash();
    await process.clock.pause(dawdleMs);
    return verdict;
  },
  mayStart: () => true,
}));

/** Takes a device's first word for its last. */
export const confirmsUnasked: AgentFault = {
  handler: (sound) => (dispatch, attempt) =>
    dispatch.job === "confirm" ? Promise.resolve({ kind: "confirmed" }) : sound(dispatch, attempt),
};

/** Whatever is delivered is begun. */
export const worksWithoutAClaim: AgentFault = {
  link: (sound) => ({
    ...sound,
    ask: async (ask) => {
      const answer = await sound.ask(ask);
      return ask.kind === "claim" ? { ...answer, verdict: "go" } : answer;
    },
  }),
};

/** Who never misses the server never ends its work for want of it. */
export const outlivesItsLease: AgentFault = { link: (sound) => ({ ...sound, ping: () => Promise.resolve() }) };

/** A result lives in memory until it is noted. */
export const keepsNoResults: AgentFault = {
  spool: (sound) => ({
    ...sound,
    write: async (entry) => {
      await sound.write(entry);
      await sound.remove(entry);
    },
  }),
};
