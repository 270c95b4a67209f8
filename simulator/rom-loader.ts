/**
 * A simulated ESP chip at a serial port, as the loader in its ROM, the stub that esptool runs on it, and the firmware behind
 * both. Real esptool (5.4) flashes it. It is a simulation by the documentation: no code of a real ROM is in it.
 *
 * 1. Requests are worked one after another, in the order in which they came.
 * 2. With modem lines (`linesFifo`) it does what a board does: EN low holds it, and IO0 says at its rise whether the loader or the
 *    firmware starts. Without them it starts in the loader, and a sync resets it there: what a board with a button would need a
 *    finger for.
 * 3. What was written to the flash stays over resets, like what was counted.
 */
import { type Clock, systemClock } from "#actor/clock.ts";
import { type ModemLines, Pty } from "#simulator/pty.ts";
import { type ChipFacts, chipFacts, type SimulatedChip } from "#simulator/rom-loader-chips.ts";
import { SimulatedFlash } from "#simulator/rom-loader-flash.ts";
import { Registers } from "#simulator/rom-loader-registers.ts";
import {
  type LoaderRequest,
  readRequest,
  responseFrame,
  slipFrame,
  SlipReader,
  xorOf,
} from "#simulator/rom-loader-slip.ts";

export interface RomLoaderOptions {
  readonly chip: SimulatedChip;
  /** Six bytes. */
  readonly mac?: readonly number[];
  /** See `PtyOptions.linesFifo`. */
  readonly linesFifo?: string;
  /** The line: blocks take as long as this lets them. Absent: no time. */
  readonly bytesPerSecond?: number;
  /** A place in the flash where a bit is flipped when it is written. */
  readonly corruptAt?: number;
  /** Says nothing any more from this data block on, counted from 1 over all writes, until `revive`. */
  readonly diesAtBlock?: number;
  /** Answers nothing at all. */
  readonly neverSyncs?: boolean;
  /** At a higher rate nothing is understood, after `noisyAfterBlocks` data blocks of it. */
  readonly noisyAboveBaud?: number;
  readonly noisyAfterBlocks?: number;
  readonly onEvent?: (event: RomLoaderEvent) => void;
  readonly clock?: Clock;
}

export type RomLoaderEvent =
  | { readonly kind: "reset"; readonly into: "loader" | "firmware" }
  | { readonly kind: "sync" }
  | { readonly kind: "baud"; readonly baud: number }
  | { readonly kind: "write-begun"; readonly offset: number; readonly bytes: number }
  /** `count` over all writes, from 1. */
  | { readonly kind: "block"; readonly count: number }
  | { readonly kind: "write-finished" };

type State = "held" | "loader" | "stub" | "firmware";

const op = {
  flashBegin: 0x02,
  flashData: 0x03,
  flashEnd: 0x04,
  memBegin: 0x05,
  memEnd: 0x06,
  memData: 0x07,
  sync: 0x08,
  writeRegister: 0x09,
  readRegister: 0x0a,
  setFlashParameters: 0x0b,
  attachFlash: 0x0d,
  changeBaud: 0x0f,
  deflateBegin: 0x10,
  deflateData: 0x11,
  deflateEnd: 0x12,
  digest: 0x13,
  securityInfo: 0x14,
} as const;

/** Statuses of the loaders. */
const unknownRequest = 0x05;
const badChecksum = 0x07;
const badPlace = 0x06;

/** A board's capacitor holds EN this long; esptool sets IO0 meanwhile. */
const enableRiseMs = 5;
/** What a sync answers in ROM; the stub answers 0, by which esptool knows it. */
const romGreeting = 0x2012_0707;
const defaultMac = [0x24, 0x0a, 0xc4, 0x12, 0x34, 0x56] as const;

export class RomLoader implements AsyncDisposable {
  readonly events: RomLoaderEvent[] = [];
  readonly #options: RomLoaderOptions;
  readonly #chip: ChipFacts;
  readonly #flash: SimulatedFlash;
  readonly #registers: Registers;
  #pty: Pty | undefined;
  #reader = new SlipReader();
  /** Invariant 1. */
  #work: Promise<void> = Promise.resolve();
  #state: State;
  #lines: ModemLines = { dtr: false, rts: false };
  #blocks = 0;
  #blocksAtBaud = 0;
  #isDead = false;

  private constructor(options: RomLoaderOptions) {
    this.#options = options;
    this.#chip = chipFacts[options.chip];
    this.#flash = new SimulatedFlash(options.corruptAt);
    this.#registers = new Registers(this.#chip, options.mac ?? defaultMac);
    this.#state = options.linesFifo === undefined ? "loader" : "firmware";
  }

  /** @throws UnavailableError as `Pty.open` */
  static async open(options: RomLoaderOptions): Promise<RomLoader> {
    const loader = new RomLoader(options);
    const { linesFifo } = options;
    loader.#pty = await Pty.open({
      onBytes: (bytes) => loader.#hear(bytes),
      onLines: (lines) => void loader.#follow(lines),
      ...(linesFifo === undefined ? {} : { linesFifo }),
    });
    return loader;
  }

  get path(): string {
    return this.#pty?.path ?? "";
  }

  /** What lies in the flash now. */
  flash(offset: number, bytes: number): Buffer {
    return Buffer.from(this.#flash.content.subarray(offset, offset + bytes));
  }

  /** What the firmware prints. */
  say(text: string): void {
    this.#pty?.write(Buffer.from(text));
  }

  /** After `diesAtBlock`: somebody has pulled the plug and put it in again. */
  revive(): void {
    this.#isDead = false;
    this.#reset("loader");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pty?.[Symbol.asyncDispose]();
  }

  #note(event: RomLoaderEvent): void {
    this.events.push(event);
    this.#options.onEvent?.(event);
  }

  #hear(bytes: Buffer): void {
    if (this.#state !== "loader" && this.#state !== "stub") return;
    for (const frame of this.#reader.push(bytes)) {
      const request = readRequest(frame);
      if (request !== undefined) this.#work = this.#work.then(() => this.#handle(request));
    }
  }

  /** Invariant 2. EN is low with RTS alone, IO0 with DTR alone: the circuit of the usual boards. */
  async #follow(lines: ModemLines): Promise<void> {
    this.#lines = lines;
    const isEnabled = !(lines.rts && !lines.dtr);
    if (!isEnabled) {
      this.#state = "held";
      return;
    }
    if (this.#state !== "held") return;
    await (this.#options.clock ?? systemClock).pause(enableRiseMs);
    const now = this.#lines;
    if (this.#state !== "held" || (now.rts && !now.dtr)) return;
    this.#reset(now.dtr && !now.rts ? "loader" : "firmware");
  }

  #reset(into: "loader" | "firmware"): void {
    this.#state = into;
    this.#reader = new SlipReader();
    this.#registers.baud = 115_200;
    this.#flash.finish();
    this.#note({ kind: "reset", into });
    if (this.#options.linesFifo === undefined || this.#isDead) return;
    const mode = into === "loader" ? "0x5 (DOWNLOAD(UART0))\r\nwaiting for download" : "0x8 (SPI_FAST_FLASH_BOOT)";
    this.say(`ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:${mode}\r\n`);
  }

  async #handle(request: LoaderRequest): Promise<void> {
    if (this.#isDead || this.#options.neverSyncs === true) return;
    if (request.op === op.sync) return this.#sync();
    if (this.#isNoisy()) return;
    const { data } = request;
    switch (request.op) {
      case op.readRegister:
        return this.#answer(request, { value: this.#registers.read(data.readUInt32LE(0)) });
      case op.writeRegister:
        for (let at = 0; at + 16 <= data.length; at += 16) {
          this.#registers.write(data.readUInt32LE(at), data.readUInt32LE(at + 4), data.readUInt32LE(at + 8));
        }
        return this.#answer(request);
      case op.securityInfo:
        return this.#answer(request, this.#security());
      case op.memBegin:
      case op.setFlashParameters:
      case op.attachFlash:
        return this.#answer(request);
      case op.memData:
        return this.#answer(request, { status: isIntact(request) ? 0 : badChecksum });
      case op.memEnd:
        return this.#runStub(request);
      case op.changeBaud:
        return this.#changeBaud(request);
      case op.flashBegin:
      case op.deflateBegin:
        return this.#begin(request);
      case op.flashData:
      case op.deflateData:
        return this.#takeBlock(request);
      case op.flashEnd:
      case op.deflateEnd:
        return this.#finish(request);
      case op.digest: {
        const digest = this.#flash.digest(data.readUInt32LE(0), data.readUInt32LE(4));
        return this.#answer(request, { body: this.#state === "stub" ? digest : Buffer.from(digest.toString("hex")) });
      }
      default:
        return this.#answer(request, { status: unknownRequest });
    }
  }

  #isNoisy(): boolean {
    const { noisyAboveBaud = Infinity, noisyAfterBlocks = 0 } = this.#options;
    return this.#registers.baud > noisyAboveBaud && this.#blocksAtBaud >= noisyAfterBlocks;
  }

  /** Eight answers, which esptool counts. */
  #sync(): void {
    if (this.#options.linesFifo === undefined && this.#state === "stub") this.#reset("loader");
    const isStub = this.#state === "stub";
    this.#note({ kind: "sync" });
    const status = Buffer.alloc(isStub ? 2 : this.#chip.statusBytes);
    const answer = responseFrame(op.sync, isStub ? 0 : romGreeting, status);
    this.#pty?.write(Buffer.concat(Array.from({ length: 8 }, () => answer)));
  }

  #security(): Reply {
    if (this.#chip.chipId === undefined) return { status: unknownRequest };
    const body = Buffer.alloc(20);
    body.writeUInt32LE(this.#chip.chipId, 12);
    return { body };
  }

  #runStub(request: LoaderRequest): void {
    this.#answer(request);
    if (request.data.readUInt32LE(4) === 0) return;
    this.#state = "stub";
    this.#pty?.write(slipFrame(Buffer.from("OHAI")));
  }

  #changeBaud(request: LoaderRequest): void {
    this.#answer(request);
    const baud = request.data.readUInt32LE(0);
    this.#registers.baud = baud;
    this.#blocksAtBaud = 0;
    this.#note({ kind: "baud", baud });
  }

  #begin(request: LoaderRequest): void {
    const { data } = request;
    const [bytes, offset] = [data.readUInt32LE(0), data.readUInt32LE(12)];
    const isFitting = this.#flash.begin(bytes, offset, request.op === op.deflateBegin);
    // Of no bytes: how the loader in the ESP8266's ROM is told to attach its flash.
    if (isFitting && bytes > 0) this.#note({ kind: "write-begun", offset, bytes });
    this.#answer(request, { status: isFitting ? 0 : badPlace });
  }

  async #takeBlock(request: LoaderRequest): Promise<void> {
    if (!isIntact(request)) return this.#answer(request, { status: badChecksum });
    const data = request.data.subarray(16);
    const { bytesPerSecond, diesAtBlock, clock = systemClock } = this.#options;
    if (bytesPerSecond !== undefined) await clock.pause((1000 * data.length) / bytesPerSecond);
    if (this.#state !== "loader" && this.#state !== "stub") return;
    this.#blocks += 1;
    this.#blocksAtBaud += 1;
    if (this.#blocks === diesAtBlock) this.#isDead = true;
    const isTaken = await this.#flash.block(data);
    this.#note({ kind: "block", count: this.#blocks });
    if (!this.#isDead) this.#answer(request, { status: isTaken ? 0 : badPlace });
  }

  #finish(request: LoaderRequest): void {
    this.#flash.finish();
    this.#note({ kind: "write-finished" });
    this.#answer(request);
    if (request.data.readUInt32LE(0) === 0) this.#reset("firmware");
  }

  #answer({ op }: LoaderRequest, { value = 0, body, status = 0 }: Reply = {}): void {
    const statusBytes = Buffer.alloc(this.#state === "stub" ? 2 : this.#chip.statusBytes);
    if (status !== 0) statusBytes.set([1, status]);
    this.#pty?.write(responseFrame(op, value, body === undefined ? statusBytes : Buffer.concat([body, statusBytes])));
  }
}

interface Reply {
  readonly value?: number;
  readonly body?: Uint8Array;
  readonly status?: number;
}

/** A data request: length, number, 8 bytes of nothing, the payload. */
function isIntact({ data, checksum }: LoaderRequest): boolean {
  return data.length >= 16 && xorOf(data.subarray(16)) === checksum;
}
