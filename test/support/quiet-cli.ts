/** A command line that runs inside this process, which takes a tenth of the time of one of its own. Nobody can be asked. */
import { systemClock } from "#actor/clock.ts";
import { jsonLine } from "#cli/clean-text.ts";
import { invoke } from "#cli/invocation.ts";
import type { Session } from "#cli/session.ts";

export interface QuietEnd {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs it to its end. */
export async function runQuietly(
  where: Pick<Session, "servers" | "credentials" | "cacheFolder" | "environment">,
  argv: readonly string[],
): Promise<QuietEnd> {
  const [out, err]: [string[], string[]] = [[], []];
  const session: Session = {
    ...where,
    terminal: {
      line: (text) => void out.push(`${text}\n`),
      note: (text) => void err.push(`${text}\n`),
      json: (value) => void out.push(`${jsonLine(value)}\n`),
      draw: () => undefined,
      isLive: false,
      canAsk: false,
      ask: () => Promise.resolve(""),
      size: () => ({ columns: 80, rows: 24 }),
      paint: (_colour, text) => text,
    },
    clock: systemClock,
    interrupted: new AbortController().signal,
  };
  const code = await invoke({
    argv,
    makeSession: () => Promise.resolve(session),
    interrupted: session.interrupted,
    say: (text) => err.push(`flashyard: ${text}\n`),
  });
  return { code, out: out.join(""), err: err.join("") };
}
