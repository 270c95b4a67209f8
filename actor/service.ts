/** How anything long-lived starts and stops. */

/**
 * 1. `stop` before, during or after `start`, and any number of times, ends in the stopped state and does not throw.
 * 2. After `stop` has resolved, the service holds no timer, socket, subscription or child.
 */
export interface Service extends AsyncDisposable {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Runs `work` once however often it is asked for; later callers get the first call's promise. */
export function once<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () => (running ??= work());
}
