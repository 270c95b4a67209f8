/** Turns a stream of bytes into lines, with a limit on the length of one. */
import { StringDecoder } from "node:string_decoder";

/** A carriage return ends a line as well: build tools redraw their progress with it. */
export class LineSplitter {
  readonly #decoder = new StringDecoder("utf8");
  readonly #bytesMax: number;
  readonly #onLine: (line: string) => void;
  #rest = "";
  #endedInReturn = false;

  constructor(bytesMax: number, onLine: (line: string) => void) {
    this.#bytesMax = bytesMax;
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    const text = this.#decoder.write(chunk);
    if (text === "") return;
    // The line feed of a pair that was torn by the chunks; its line has been given out at the carriage return.
    const fresh = this.#endedInReturn && text.startsWith("\n") ? text.slice(1) : text;
    this.#endedInReturn = text.endsWith("\r");
    const parts = (this.#rest + fresh).split(/\r\n|\n|\r/);
    this.#rest = parts.pop() ?? "";
    for (const part of parts) this.#emit(part);
    // A line without end is cut at the limit, so that memory stays flat.
    while (this.#rest.length > this.#bytesMax) {
      this.#emit(this.#rest.slice(0, this.#bytesMax));
      this.#rest = this.#rest.slice(this.#bytesMax);
    }
  }

  end(): void {
    const last = this.#rest + this.#decoder.end();
    this.#rest = "";
    if (last !== "") this.#emit(last);
  }

  #emit(line: string): void {
    this.#onLine(line.length > this.#bytesMax ? `${line.slice(0, this.#bytesMax)} …` : line);
  }
}
