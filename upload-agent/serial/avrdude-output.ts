/** Reads what avrdude 6 to 8 prints. Pure. Its bar grows on one line, a `#` for two percent, so it is read byte by byte. */
import type { FlashPhase } from "#upload-agent/flasher.ts";

/** What only the start of a write prints, or what comes behind it. */
const touching = /(^|\n)(avrdude: )?(erasing chip|writing \d+ bytes|Writing \||\d+ bytes of flash written)/i;
const verified = /\b(\d+) bytes of flash verified/;
const signature = /device signature = ((?:0x[0-9a-f]+)|(?:[0-9A-F]{2} ){2}[0-9A-F]{2})(?: \((?:probably )?([^)]+)\))?/i;
const marksMax = 50;

/** A page of output; avrdude says little beside its bars. */
const textMax = 65_536;

export class AvrdudeReport {
  #text = "";

  /** @returns how much is written, 0 to 100, when that has changed. */
  bytes(chunk: Buffer): number | undefined {
    const before = this.percent;
    this.#text = (this.#text + chunk.toString("latin1")).slice(-textMax);
    return this.percent === before ? undefined : this.percent;
  }

  get percent(): number | undefined {
    const bar = /Writing \| *(#*)/.exec(this.#text)?.[1];
    return bar === undefined ? undefined : Math.round((100 * Math.min(bar.length, marksMax)) / marksMax);
  }

  get phase(): FlashPhase {
    if (/verifying flash|Reading \|.*\n[^]*bytes of flash written/i.test(this.#text)) return "committing";
    if (/Writing \|/.test(this.#text)) return "sending";
    return /device signature/i.test(this.#text) ? "preparing" : "connecting";
  }

  get mayHaveTouched(): boolean {
    return touching.test(this.#text) || (this.#text.trim() !== "" && !/avrdude/i.test(this.#text));
  }

  /** Bytes that avrdude has read back and found equal. */
  get verifiedBytes(): number | undefined {
    const found = verified.exec(this.#text)?.[1];
    return found === undefined ? undefined : Number(found);
  }

  /** `m328p`, or the signature of a part that avrdude does not know. */
  get part(): string | undefined {
    const [, bytes, name] = signature.exec(this.#text) ?? [];
    return name ?? bytes;
  }

  /** The part at hand is not the one that was named; avrdude has ended without touching it. */
  get isOtherPart(): boolean {
    return /expected signature for/i.test(this.#text);
  }

  get refusedPort(): "missing" | "busy" | undefined {
    const [, why] = /(?:cannot|can't) open (?:port|device) \S+: (.+)/i.exec(this.#text) ?? [];
    if (why === undefined) return undefined;
    return /No such file/i.test(why) ? "missing" : "busy";
  }

  get couldNotConnect(): boolean {
    return /not in sync|programmer is not responding|initialization failed|AVR device not responding/i.test(this.#text);
  }
}
