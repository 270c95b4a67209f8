/** Waiting for a signal. */

/** Resolves when the signal fires, at once when it has. */
export async function untilFired(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
