/**
 * Reads what esptool 5 prints. Pure. Its lines say how far it came; whether it succeeded is for its exit code *and* for the hashes,
 * and a text that is not known makes the effect on the device worse, never better.
 */
import type { FlashPhase } from "#upload-agent/flasher.ts";

/** What only the start of a write prints, or what comes behind it. */
const touching =
  /^(Flash will be erased|Erasing|Compressed \d|Writing at|Wrote \d|Verifying|Hash of data|Lost connection)/;
const banner = /^esptool v\d+\./;
/** `Writing at 0x00015417 ━╸     5.3% 16.00kB/301.04kB [0s]` */
const writing = /^Writing at 0x[0-9a-f]+\D.*?\b(\d{1,3}(?:\.\d+)?)%/;

/** Lines kept of what it said: its errors span two or three. */
const linesMax = 200;

export class EsptoolReport {
  readonly #lines: string[] = [];
  #hasBanner = false;
  #hasTouched = false;
  /** `esp32c3`, from `Connected to ESP32-C3 on …` or the chip's own description. */
  chip: string | undefined;
  /** `24:0A:C4:12:34:56` */
  mac: string | undefined;
  /** `ESP32-C3 (QFN32) (revision v0.4)` */
  description: string | undefined;
  /** Segments whose hash esptool read back from the flash and found equal. */
  verified = 0;
  wireBytes = 0;
  phase: FlashPhase = "connecting";

  /** @returns how much of the segment at hand is written, 0 to 100, for the lines that say it. */
  line(text: string): number | undefined {
    const line = text.trimEnd();
    if (line === "") return undefined;
    this.#lines.push(line);
    if (this.#lines.length > linesMax) this.#lines.shift();
    if (banner.test(line)) this.#hasBanner = true;
    if (touching.test(line)) this.#hasTouched = true;
    this.#follow(line);
    const percent = Number(writing.exec(line)?.[1] ?? Number.NaN);
    return percent <= 100 ? percent : undefined;
  }

  #follow(line: string): void {
    const connected = /^Connected to (\S+) on /.exec(line)?.[1];
    if (connected !== undefined) this.chip = plainChip(connected);
    const described = /^Chip type:\s+(.+)$/.exec(line)?.[1];
    if (described !== undefined) this.description = described;
    const mac = /^(?:BASE )?MAC:\s+((?:[0-9a-f]{2}:){5}[0-9a-f]{2})$/i.exec(line)?.[1];
    if (mac !== undefined) this.mac = mac.toUpperCase();
    if (line.startsWith("Configuring flash size")) this.phase = "preparing";
    if (line.startsWith("Writing at")) this.phase = "sending";
    if (line.startsWith("Verifying")) this.phase = "committing";
    if (line === "Hash of data verified.") this.verified += 1;
    const wrote = /^Wrote (\d+) bytes(?: \((\d+) compressed\))?/.exec(line);
    if (wrote !== null) this.wireBytes += Number(wrote[2] ?? wrote[1]);
  }

  /** Whether a write may have begun. A text without esptool's own first line is taken for the worst. */
  get mayHaveTouched(): boolean {
    return this.#hasTouched || (this.#lines.length > 0 && !this.#hasBanner);
  }

  /** `ESP32-S3`, when esptool found another chip than the one that it was told. */
  get otherChip(): string | undefined {
    const text = this.#text;
    return (
      /This chip is (\S+?), not /.exec(text)?.[1] ??
      /doesn't appear to be an? \S+ \(read (chip (?:ID|magic value) \w+)\)/.exec(text)?.[1]
    );
  }

  /** esptool itself refused the file. */
  get refusedImage(): string | undefined {
    return /'([^']+)' is not an (\S+) image/.exec(this.#text)?.[0];
  }

  get couldNotOpen(): boolean {
    return /Could not open \S+, the port is busy or doesn't exist/.test(this.#text);
  }

  get couldNotConnect(): boolean {
    return /Failed to connect to /.test(this.#text);
  }

  get #text(): string {
    return this.#lines.join("\n");
  }
}

/** `ESP32-C3` is `esp32c3` on the command line. */
function plainChip(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
}
