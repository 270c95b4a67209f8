/** Ways in which a simulated device can misbehave, by names for people. */
import type { Afterlife } from "#simulator/living-device.ts";
import type { Fault } from "#simulator/ota-fault.ts";

export interface NamedFault {
  readonly meaning: string;
  readonly fault?: Fault;
  readonly afterwards?: Afterlife;
}

export const namedFaults = {
  "cut-off": {
    meaning: "hangs up in the middle of every image",
    fault: { at: "block", act: "reset", afterBytes: 50_000 },
  },
  "falls-silent": {
    meaning: "says nothing any more in the middle of every image",
    fault: { at: "block", act: "silence", afterBytes: 50_000 },
  },
  "no-space": { meaning: "has no space for the image", fault: { at: "prepared", act: [0x89] } },
  "bad-flash": { meaning: "cannot write its flash", fault: { at: "block", act: [0x83], afterBytes: 50_000 } },
  "no-thanks": {
    meaning: "takes the image and does not say so",
    fault: { at: "received", act: "reset", commits: true },
  },
  "rolls-back": {
    meaning: "runs the new build for 15 s, and then the one before again",
    afterwards: "rolls-back",
  },
  dies: { meaning: "takes the image and never comes back", afterwards: "dies" },
} as const satisfies Readonly<Record<string, NamedFault>>;

export type FaultName = keyof typeof namedFaults;
export const faultNames = Object.keys(namedFaults) as readonly FaultName[];
