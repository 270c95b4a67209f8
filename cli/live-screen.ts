/**
 * Lines at the lower end of a terminal that are drawn again in place.
 *
 * 1. No line is wider than the terminal and all of them are fewer than its rows, so that going up as many lines as were drawn
 *    is the place where they began.
 * 2. The cursor is hidden from the first drawing to `close`.
 */
import type { Terminal } from "#cli/terminal.ts";
import type { TreeLine } from "#cli/tree.ts";

const hideCursor = "\u001b[?25l";
export const showCursor = "\u001b[?25h";

export class LiveScreen {
  readonly #terminal: Terminal;
  #drawn = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  draw(lines: readonly TreeLine[]): void {
    const painted = lines.map(({ text, colour }) => `${this.#terminal.paint(colour, text)}\n`);
    this.#terminal.draw(`${hideCursor}${this.#upAndClear()}${painted.join("")}`);
    this.#drawn = lines.length;
  }

  /** The last drawing, which stays: its lines may be longer and more than the terminal has room for. */
  close(lines: readonly TreeLine[]): void {
    this.draw(lines);
    this.#drawn = 0;
    this.#terminal.draw(showCursor);
  }

  #upAndClear(): string {
    return this.#drawn === 0 ? "" : `\u001b[${this.#drawn}A\r\u001b[J`;
  }
}
