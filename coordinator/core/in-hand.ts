/** Which jobs an agent may be working on at this moment, and what they keep from others. */
import type { Chain } from "#protocol/chain.ts";
import { isTerminal, type JobState, type UploadJob } from "#protocol/job.ts";

/** True while an agent may be working on a job in this state. */
export function isInHand(state: JobState | undefined): boolean {
  return state === "dispatched" || state === "running" || state === "cancelling";
}

/**
 * A device is taken while an upload to it is in hand, and also while a lost flash waits to be probed: until the device has
 * been asked, no other image may go there.
 */
export function takesDevice(upload: UploadJob): boolean {
  return isInHand(upload.state) || (upload.state === "queued" && upload.mode === "probe");
}

/** True for a chain that takes a tree, a device or a slot. */
export function isTaking({ clean, compile, upload, confirm }: Chain): boolean {
  return (
    isInHand(clean?.state) ||
    isInHand(compile?.state) ||
    isInHand(confirm?.state) ||
    (upload !== undefined && takesDevice(upload))
  );
}

/** True for a chain that is to take trees away and has not ended. */
export function isCleaning({ clean }: Chain): boolean {
  return clean !== undefined && !isTerminal(clean.state);
}
