/** Where the command line writes. Answers go to the standard output, everything about the way there to the other one. */
import { styleText } from "node:util";
import { jsonLine } from "#cli/clean-text.ts";
import type { Colour } from "#cli/job-sentence.ts";

export interface Terminal {
  /** One line of the answer; the caller has cleaned it. */
  line(text: string): void;
  /** One line on the way to the answer. */
  note(text: string): void;
  json(value: unknown): void;
  /** Text with control sequences; only for a live terminal. */
  draw(text: string): void;
  /** Whether lines can be redrawn. */
  readonly isLive: boolean;
  size(): { readonly columns: number; readonly rows: number };
  paint(colour: Colour | undefined, text: string): string;
}

export interface TerminalOptions {
  readonly out: NodeJS.WriteStream;
  readonly errors: NodeJS.WriteStream;
  readonly hasColour: boolean;
  readonly isDumb: boolean;
}

export function terminalOn({ out, errors, hasColour, isDumb }: TerminalOptions): Terminal {
  const isLive = out.isTTY && !isDumb;
  const isColoured = hasColour && isLive;
  return {
    line: (text) => void out.write(`${text}\n`),
    note: (text) => void errors.write(`${text}\n`),
    json: (value) => void out.write(`${jsonLine(value)}\n`),
    draw: (text) => void out.write(text),
    isLive,
    // Some terminals and recorders say 0.
    size: () => ({ columns: out.columns || 80, rows: out.rows || 24 }),
    paint: (colour, text) =>
      isColoured && colour !== undefined ? styleText(colour, text, { validateStream: false }) : text,
  };
}
