/** SIGINT and SIGTERM as one orderly end; called by `main.ts` files only. */

/** The first signal calls `stop`; a second one ends the process at once. */
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
