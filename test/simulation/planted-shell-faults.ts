/**
 * Mistakes that the shell around the core could make, each planted into the production `Coordinator` from outside: into what it
 * is given of the world, or into what reaches its core.
 */
import type { ChainRecords, CoordinatorPorts } from "#actor/coordinator-ports.ts";
import { isFinished } from "#protocol/chain.ts";
import { decode } from "#protocol/envelope.ts";
import type { AgentId } from "#protocol/ids.ts";
import { Ask } from "#protocol/messages.ts";
import type { CoordinatorFault } from "#test/simulation/simulated-coordinator.ts";
import { SimulatedRecords } from "#test/simulation/simulated-records.ts";

/** A new one for each run, because some remember. */
export type PlantFault = () => CoordinatorFault;

/** The sound ports with some of the dealings with records replaced. */
function withRecords(
  sound: CoordinatorPorts,
  change: (records: ChainRecords) => Partial<ChainRecords>,
): CoordinatorPorts {
  const { records } = sound;
  return {
    ...sound,
    records: {
      removedMs: records.removedMs,
      load: () => records.load(),
      fence: (expected) => records.fence(expected),
      commit: (changes, expected, isAtomic) => records.commit(changes, expected, isAtomic),
      ...change(records),
    },
  };
}

/** A commit counts as done when it is sent. */
export const answersBeforeTheCommit: PlantFault = () => ({
  ports: (sound) =>
    withRecords(sound, (records) => ({
      commit: (changes, expected, isAtomic) => {
        records.commit(changes, expected, isAtomic).catch(() => undefined);
        return Promise.resolve({ ok: true, lastSequence: expected + changes.size });
      },
    })),
});

/** What belongs together is written one by one. */
export const breaksGroupsUp: PlantFault = () => ({
  ports: (sound) =>
    withRecords(sound, (records) => ({ commit: (changes, expected) => records.commit(changes, expected, false) })),
});

/** Each of several writes expects only a sequence, and not the write before it. */
class RecordsBySequence extends SimulatedRecords {
  protected override expectedBy(index: number, first: number): number {
    return first + index;
  }
}

/** With a lease that is no lease, so that there are two writers. */
export const pipelinesBySequence: PlantFault = () => ({
  ports: (sound, connection) => ({ ...sound, records: new RecordsBySequence(connection) }),
  ...everybodyLeads(),
});

/** Everybody is told to have the lease, and everybody works at once. No mistake that may break a promise: the records are fenced. */
export const everybodyLeads: PlantFault = () => ({
  lease: (sound) => ({ ...sound, take: () => Promise.resolve(true), renew: () => Promise.resolve(true) }),
  lead: () => ({ isLeading: () => true, confirm: () => Promise.resolve(true) }),
});

/** What has ended leaves the live records and arrives nowhere. */
export const losesTheHistory: PlantFault = () => ({
  ports: (sound) => ({ ...sound, history: { ...sound.history, putAll: () => Promise.resolve() } }),
});

/** A request whose chain has ended and left the live records is taken again. */
export const forgetsEndedChains: PlantFault = () => ({
  ports: (sound) =>
    withRecords(sound, (records) => ({
      removedMs: 0,
      load: async () => ({ ...(await records.load()), removed: [] }),
    })),
});

/** What agents say again, because a commit was lost that would have held it, is no news. */
export const hearsAgentsOnce: PlantFault = () => ({
  decide: (sound) => {
    /** Last word of each agent that has been decided; empty for one that is gone. */
    const heard = new Map<AgentId, string>();
    return (farm, events, at) => {
      const news = events.filter((event) => {
        if (event.kind !== "agent-announced" && event.kind !== "agent-vanished") return true;
        const agent = event.kind === "agent-vanished" ? event.agent : event.announcement.agent;
        const word = event.kind === "agent-vanished" ? "" : JSON.stringify(event.announcement);
        const isNews = heard.get(agent) !== word;
        heard.set(agent, word);
        return isNews || (event.kind === "agent-announced" && event.announcement.holding.length > 0);
      });
      return sound(farm, news, at);
    };
  },
});

/** A start does not take up what its predecessor had still to do. */
export const leavesThePastAlone: PlantFault = () => ({
  ports: (sound) =>
    withRecords(sound, (records) => ({
      load: async () => {
        const loaded = await records.load();
        return { ...loaded, chains: loaded.chains.filter((chain) => !isFinished(chain)) };
      },
    })),
});

/** Nobody takes the lease a second time. */
export const neverTakesOver: PlantFault = () => {
  let isTaken = false;
  return {
    lease: (sound) => ({
      ...sound,
      take: async () => {
        if (isTaken) return false;
        isTaken = await sound.take();
        return isTaken;
      },
    }),
  };
};

/** Two writers, each of which takes the newest record for its own. */
export const commitsWithoutAFence: PlantFault = () => ({
  ports: (sound, { world: { server } }) =>
    withRecords(sound, (records) => ({
      commit: (changes, _expected, isAtomic) => records.commit(changes, server.lastSequence, isAtomic),
    })),
  ...everybodyLeads(),
});

/** A report is noted when it is heard. */
export const notesBeforeTheCommit: PlantFault = () => ({
  ports: (sound) => ({
    ...sound,
    serveAsks: (handle) =>
      sound.serveAsks((call) => {
        const ask = decode(Ask, call.bytes);
        if (ask.ok && ask.value.kind === "report") call.answer({ v: 1, verdict: "noted" });
        handle(call);
      }),
  }),
});
