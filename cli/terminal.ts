/** Where the command line writes. Answers go to the standard output, everything about the way there to the other one. */
import { createInterface } from "node:readline";
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
  /** Whether somebody sits there who can be asked. */
  readonly canAsk: boolean;
  /** Puts a question and reads one line; empty when there is none. Ends with the signal. */
  ask(question: string, signal: AbortSignal): Promise<string>;
  size(): { readonly columns: number; readonly rows: number };
  paint(colour: Colour | undefined, text: string): string;
}

export interface TerminalOptions {
  readonly input: NodeJS.ReadStream;
  readonly out: NodeJS.WriteStream;
  readonly errors: NodeJS.WriteStream;
  readonly hasColour: boolean;
  readonly isDumb: boolean;
}

export function terminalOn({ input, out, errors, hasColour, isDumb }: TerminalOptions): Terminal {
  const isLive = out.isTTY && !isDumb;
  const isColoured = hasColour && isLive;
  return {
    line: (text) => void out.write(`${text}\n`),
    note: (text) => void errors.write(`${text}\n`),
    json: (value) => void out.write(`${jsonLine(value)}\n`),
    draw: (text) => void out.write(text),
    isLive,
    canAsk: input.isTTY,
    ask(question, signal) {
      errors.write(question);
      return firstLine(input, signal);
    },
    // Some terminals and recorders say 0.
    size: () => ({ columns: out.columns || 80, rows: out.rows || 24 }),
    paint: (colour, text) =>
      isColoured && colour !== undefined ? styleText(colour, text, { validateStream: false }) : text,
  };
}

/** The terminal stays as it is, so that Ctrl-C ends the question as it ends everything else. */
function firstLine(input: NodeJS.ReadStream, signal: AbortSignal): Promise<string> {
  const reader = createInterface({ input, terminal: false, signal });
  return new Promise((resolve) => {
    reader.once("line", (line) => {
      resolve(line);
      reader.close();
    });
    reader.once("close", () => resolve(""));
  });
}
