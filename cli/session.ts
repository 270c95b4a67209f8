/** What every command gets from `main.ts`. */
import type { Clock } from "#actor/clock.ts";
import type { Terminal } from "#cli/terminal.ts";

export interface Session {
  /** The NATS servers that the user has named; absent: those of the credentials. */
  readonly servers?: string | undefined;
  /** The file that it signs in with; an open farm needs none. */
  readonly credentials: string;
  /** Holds the ESPHome environments. */
  readonly cacheFolder: string;
  /** FLASHYARD_PYTHON. */
  readonly pythonHint?: string | undefined;
  /** The process's environment, for the farm that is started from it. */
  readonly environment: NodeJS.ProcessEnv;
  readonly terminal: Terminal;
  readonly clock: Clock;
  /** Fires at the first Ctrl-C. */
  readonly interrupted: AbortSignal;
}

/** The release of ESPHome that a configuration is read and built with when none is named. */
export const defaultEsphomeVersion = "2026.10.0";
