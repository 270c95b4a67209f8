/** The chips that the simulated loader can be, as esptool 5.4 asks for them (its `targets/`). */

export type SimulatedChip = "esp8266" | "esp32" | "esp32c3" | "esp32s3";

export interface ChipFacts {
  /** In the answer to GET_SECURITY_INFO; absent: the chip does not know that request. */
  readonly chipId?: number;
  /** What register 0x40001000 holds. */
  readonly magic: number;
  /** Bytes of a status in the loader in ROM; the stub's has 2 everywhere. */
  readonly statusBytes: 2 | 4;
  readonly spi: {
    readonly base: number;
    readonly usr2: number;
    readonly w0: number;
    /** Whether an address of 24 bits stands in the register's upper bits. */
    readonly isAddressShifted: boolean;
  };
  /** UART clock divider and the clock that it divides, Hz: esptool reads the crystal's frequency from it. */
  readonly uartDivider?: { readonly register: number; readonly hertz: number };
  /** Registers that hold the MAC address, written as esptool reads them. */
  macRegisters(mac: readonly number[]): ReadonlyMap<number, number>;
}

const word = (...bytes: readonly (number | undefined)[]) =>
  bytes.reduce<number>((value, byte) => ((value << 8) | (byte ?? 0)) >>> 0, 0);

/** Of the ESP32 and later: the lower four bytes, then the upper two. */
const macFrom = (register: number) => (mac: readonly number[]) =>
  new Map([
    [register, word(mac[2], mac[3], mac[4], mac[5])],
    [register + 4, word(0, 0, mac[0], mac[1])],
  ]);

const newerSpi = { base: 0x6000_2000, usr2: 0x20, w0: 0x58, isAddressShifted: false } as const;

export const chipFacts: Readonly<Record<SimulatedChip, ChipFacts>> = {
  esp8266: {
    magic: 0xfff0_c101,
    statusBytes: 2,
    spi: { base: 0x6000_0200, usr2: 0x24, w0: 0x40, isAddressShifted: true },
    uartDivider: { register: 0x6000_0014, hertz: 52_000_000 },
    macRegisters: (mac) =>
      new Map([
        [0x3ff0_0050, word(mac[5], 0, 0, 0)],
        [0x3ff0_0054, word(0, 0, mac[3], mac[4])],
        [0x3ff0_005c, word(0, mac[0], mac[1], mac[2])],
      ]),
  },
  esp32: {
    magic: 0x00f0_1d83,
    statusBytes: 4,
    spi: { base: 0x3ff4_2000, usr2: 0x24, w0: 0x80, isAddressShifted: true },
    uartDivider: { register: 0x3ff4_0014, hertz: 40_000_000 },
    macRegisters: macFrom(0x3ff5_a004),
  },
  esp32c3: {
    chipId: 5,
    magic: 0x1b31_506f,
    statusBytes: 4,
    spi: newerSpi,
    macRegisters: macFrom(0x6000_8844),
  },
  esp32s3: {
    chipId: 9,
    magic: 0x0000_0009,
    statusBytes: 4,
    spi: newerSpi,
    macRegisters: macFrom(0x6000_7044),
  },
};
