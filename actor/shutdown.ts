/** The ends of a process as one orderly end; called by `main.ts` files only. */

/** The first SIGINT or SIGTERM calls `stop`; a second one ends the process at once. */
export function onShutdown(stop: () => Promise<void>): void {
  let isStopping = false;
  const handle = (signal: NodeJS.Signals) => {
    // 128 + the signal's number, as shells report it.
    if (isStopping) process.exit(signal === "SIGINT" ? 130 : 143);
    isStopping = true;
    void stop();
  };
  process.on("SIGINT", handle);
  process.on("SIGTERM", handle);
}

/** How often a child looks whether its parent is still there. */
const orphanCheckMs = 500;

/** Calls back once when the parent that started this process is gone: nobody would end it any more. */
export function onOrphaned(call: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    call();
  }, orphanCheckMs);
  timer.unref();
}
