/** The registers of a simulated chip: numbers that stay as they are written, and an SPI controller with a flash behind it. */
import type { ChipFacts } from "#simulator/rom-loader-chips.ts";

/** Winbond, 4 MiB: the third byte is the binary logarithm of the size. */
const flashIdentity = 0x16_40_ef;
const serialFlashParameters = 0x5044_4653;

const readIdentity = 0x9f;
const readParameters = 0x5a;
const isStarted = 1 << 18;

export class Registers {
  readonly #chip: ChipFacts;
  readonly #words: Map<number, number>;
  /** Bits per second on the line: what the divider of the UART says. */
  baud = 115_200;

  constructor(chip: ChipFacts, mac: readonly number[]) {
    this.#chip = chip;
    this.#words = new Map([[0x4000_1000, chip.magic], ...chip.macRegisters(mac)]);
  }

  read(register: number): number {
    const { uartDivider } = this.#chip;
    if (uartDivider?.register === register) return Math.round(uartDivider.hertz / this.baud);
    return this.#words.get(register) ?? 0;
  }

  write(register: number, value: number, mask: number): void {
    const { spi } = this.#chip;
    if (register === spi.base && (value & isStarted) !== 0) {
      this.#words.set(spi.base + spi.w0, this.#askFlash());
      return;
    }
    const kept = this.read(register) & ~mask;
    this.#words.set(register, (kept | (value & mask)) >>> 0);
  }

  #askFlash(): number {
    const { spi } = this.#chip;
    const command = this.read(spi.base + spi.usr2) & 0xff;
    const address = this.read(spi.base + 4) >>> (spi.isAddressShifted ? 8 : 0);
    if (command === readIdentity) return flashIdentity;
    if (command === readParameters) return address === 0 ? serialFlashParameters : 0xff;
    return 0;
  }
}
