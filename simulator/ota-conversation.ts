/** One connection to a simulated device's update server, from the greeting to the restart. */
import { createHash, randomBytes } from "node:crypto";
import { inflateRawSync } from "node:zlib";
import type { DeviceSocket } from "#simulator/device-socket.ts";
import { type Fault, isFlaw, type Step } from "#simulator/ota-fault.ts";
import { frameOf, shakeHands, writeFlawedFrame } from "#simulator/noise-frames.ts";
import { NoiseWire, type OtaWire, PlainWire } from "#simulator/ota-wire.ts";

/** What the device is asked to replace. */
export type Part = "application" | "partition-table" | "bootloader";
const parts: Readonly<Record<number, Part>> = { 0: "application", 1: "partition-table", 2: "bootloader" };

/** What a device can do, and wants, when it is updated. */
export interface UpdateOptions {
  /** Of the update protocol: 2 acknowledges each block. */
  readonly version?: number;
  /** Old firmware asks with MD5. With a cipher a device asks only where `inCipher` says so. */
  readonly password?: { readonly method: "md5" | "sha256"; readonly text: string; readonly inCipher?: boolean };
  readonly compression?: "none" | "gzip" | "deflate";
  /** Whether it knows the extended protocol; old firmware does not, and never takes deflate or a cipher. */
  readonly extended?: boolean;
  /** Its key in base64, for updates and for the API; `isRequired`: it takes no update in plaintext. */
  readonly encryption?: { readonly key: string; readonly isRequired?: boolean };
  /** It lets its bootloader and partition table be replaced. */
  readonly opensPartitions?: boolean;
}

/** What a conversation needs of its device. */
export interface UpdatedDevice {
  readonly options: UpdateOptions;
  readonly fault: Fault | undefined;
  /** Whether it could take as many bytes for this part. @returns 0, or its error */
  refusalOf(part: Part, imageBytes: number): number;
  /** Replaces the part. @returns the byte `45`, or its error. */
  commit(part: Part, stored: Uint8Array, isGzip: boolean): number;
  /** A part that it needs to start is now half written. */
  degrade(): void;
}

/** What the device saw of one connection. */
export interface DeviceSession {
  /** Bytes of the image on the wire, as announced; 0 when it never came to that. */
  announcedBytes: number;
  receivedBytes: number;
  committed: boolean;
  encrypted: boolean;
  isOver: boolean;
}

/** What client and device have agreed on. */
interface Terms {
  readonly isExtended: boolean;
  readonly deflates: boolean;
  readonly gzips: boolean;
  readonly knowsSha256: boolean;
}

const answered = { prepared: 0x42, checksum: 0x43, received: 0x44, committed: 0x45, blockTaken: 0x47 } as const;
const magic = Buffer.from("6c26f75c45", "hex");

export class OtaConversation {
  readonly #device: UpdatedDevice;
  readonly #socket: DeviceSocket;
  readonly #session: DeviceSession;
  #wire: OtaWire;

  constructor(device: UpdatedDevice, socket: DeviceSocket, session: DeviceSession) {
    this.#device = device;
    this.#socket = socket;
    this.#session = session;
    this.#wire = new PlainWire(socket);
  }

  /** Ends when the device is done with the connection; every early `return` is a session that broke. */
  async run(): Promise<void> {
    const terms = await this.#negotiate();
    if (terms === undefined || !(await this.#authenticate(terms.knowsSha256))) return;
    const { isExtended, deflates, gzips } = terms;
    const kind = isExtended ? (await this.#wire.field(1))?.[0] : 0;
    if (kind === undefined) return;
    const wireBytes = (await this.#wire.field(4))?.readUInt32BE();
    const imageBytes = deflates ? (await this.#wire.field(4))?.readUInt32BE() : wireBytes;
    if (wireBytes === undefined || imageBytes === undefined) return;
    this.#session.announcedBytes = wireBytes;
    const part = parts[kind];
    const refusal = part === undefined ? 0x8e : this.#device.refusalOf(part, imageBytes);
    if (part === undefined || refusal !== 0) return this.#fail(refusal);
    if (!(await this.#say("prepared", [answered.prepared]))) return;
    const md5 = (await this.#wire.field(32))?.toString("latin1");
    if (md5 === undefined || !(await this.#say("checksum", [answered.checksum]))) return;

    const wire = await this.#takeImage(wireBytes);
    if (wire === undefined) return;
    const image = deflates ? inflated(wire, imageBytes) : wire;
    if (image === undefined) return this.#fail(0xff);
    await this.#commit(part, image, md5, gzips);
  }

  async #negotiate(): Promise<Terms | undefined> {
    const { version = 2, extended = true, compression = "none", encryption, opensPartitions } = this.#device.options;
    const greeting = await this.#wire.field(5);
    if (greeting === undefined) return undefined;
    if (!greeting.equals(magic)) return this.#fail(0x80);
    if (!(await this.#say("greeting", [0x00, version]))) return undefined;
    const features = (await this.#wire.field(1))?.[0];
    if (features === undefined) return undefined;
    const wantsCipher = (features & 0x0c) === 0x0c;
    if (encryption?.isRequired === true && !wantsCipher) return this.#fail(0x94);
    const isExtended = extended && (features & 0x04) !== 0;
    const deflates = isExtended && compression === "deflate" && (features & 0x10) !== 0;
    const gzips = compression === "gzip" && (features & 0x01) !== 0;
    const flags =
      (gzips ? 0x01 : 0) |
      (opensPartitions === true ? 0x02 : 0) |
      (encryption === undefined ? 0 : 0x04) |
      (deflates ? 0x08 : 0);
    if (!(await this.#say("features", isExtended ? [0x48, flags] : [gzips ? 0x46 : 0x40]))) return undefined;
    if (encryption !== undefined && isExtended && wantsCipher) {
      const said = Buffer.concat([magic, Buffer.of(0x00, version, features, 0x48, flags)]);
      const prologue = Buffer.concat([Buffer.from("NoiseOTAInit"), said]);
      if (!(await this.#encrypt(encryption.key, prologue))) return undefined;
    }
    return { isExtended, deflates, gzips, knowsSha256: (features & 0x02) !== 0 };
  }

  async #encrypt(key: string, prologue: Uint8Array): Promise<boolean> {
    const shaken = await shakeHands(this.#socket, key, prologue);
    if (shaken.kind === "broken") {
      this.#socket.close();
      return false;
    }
    const fault = this.#device.fault;
    if (fault?.at === "handshake" && isFlaw(fault.act)) {
      await writeFlawedFrame(this.#socket, shaken.payload, fault.act);
      await this.#endFlawed(fault.act);
      return false;
    }
    if (fault?.at === "handshake" && typeof fault.act !== "string") {
      await this.#socket.write(frameOf(Buffer.from(fault.act)));
      this.#socket.close();
      return false;
    }
    if (!(await this.#say("handshake", [...frameOf(shaken.payload)]))) return false;
    if (shaken.kind === "refusal") {
      this.#socket.close();
      return false;
    }
    this.#wire = new NoiseWire(this.#socket, shaken.ciphers);
    this.#session.encrypted = true;
    return true;
  }

  async #authenticate(knowsSha256: boolean): Promise<boolean> {
    const password = this.#device.options.password;
    // A device takes the key of a cipher for proof enough.
    if (password !== undefined && (!this.#session.encrypted || password.inCipher === true)) {
      const { method, text } = password;
      if (method === "sha256" && !knowsSha256) {
        await this.#fail(0x82);
        return false;
      }
      const length = method === "md5" ? 32 : 64;
      const nonce = randomBytes(length / 2).toString("hex");
      const request = [method === "md5" ? 0x01 : 0x02, ...Buffer.from(nonce)];
      if (!(await this.#say("nonce", request))) return false;
      const clientNonce = (await this.#wire.field(length))?.toString("latin1");
      const proof = (await this.#wire.field(length))?.toString("latin1");
      if (proof === undefined) return false;
      const expected = createHash(method).update(`${text}${nonce}${clientNonce}`).digest("hex");
      if (proof !== expected) {
        await this.#fail(0x82);
        return false;
      }
    }
    return this.#say("authenticated", [0x41]);
  }

  async #takeImage(wireBytes: number): Promise<Buffer | undefined> {
    const { fault, options } = this.#device;
    const pieces: Buffer[] = [];
    let acknowledged = 0;
    while (this.#session.receivedBytes < wireBytes) {
      const piece = await this.#wire.data(wireBytes - this.#session.receivedBytes);
      if (piece === undefined) return undefined;
      pieces.push(piece);
      this.#session.receivedBytes += piece.length;
      const received = this.#session.receivedBytes;
      if (fault?.at === "block" && received >= (fault.afterBytes ?? 1)) {
        await this.#misbehave(fault, [answered.blockTaken]);
        return undefined;
      }
      if (options.version === 1) continue;
      const dueBytes = received === wireBytes ? received : received - (received % 8192);
      for (; acknowledged < dueBytes; acknowledged += 8192) await this.#wire.write(Buffer.of(answered.blockTaken));
    }
    return Buffer.concat(pieces);
  }

  async #commit(part: Part, stored: Uint8Array, md5: string, isGzip: boolean): Promise<void> {
    const fault = this.#device.fault;
    const commitNow = (): number => {
      if (createHash("md5").update(stored).digest("hex") !== md5.toLowerCase()) return 0x8b;
      const verdict = this.#device.commit(part, stored, isGzip);
      if (verdict === answered.committed) this.#session.committed = true;
      return verdict;
    };
    if (fault?.commits === true) commitNow();
    if (!(await this.#say("received", [answered.received]))) return;
    const refusesCommit = fault?.at === "committed" && fault.commits !== true;
    const verdict = refusesCommit ? answered.committed : commitNow();
    if (verdict !== answered.committed) return this.#fail(verdict);
    if (await this.#say("committed", [answered.committed])) await this.#wire.field(1);
  }

  /** Answers a step, or does what the fault has planned for it. @returns false when the session is over. */
  async #say(step: Step, bytes: readonly number[]): Promise<boolean> {
    const fault = this.#device.fault;
    if (fault?.at === step) {
      await this.#misbehave(fault, bytes);
      return false;
    }
    await this.#wire.write(Buffer.from(bytes));
    return true;
  }

  async #fail(code: number): Promise<undefined> {
    await this.#wire.write(Buffer.of(code));
    this.#socket.close();
  }

  /** @param right what the answer should have been */
  async #misbehave({ act, before }: Fault, right: readonly number[]): Promise<void> {
    if (before !== undefined) await this.#wire.write(Buffer.from(before));
    if (act === "close") this.#socket.close();
    else if (act === "reset") this.#socket.reset();
    else if (act === "silence") await this.#socket.over();
    else if (act === "flood") await this.#socket.flood();
    else if (isFlaw(act)) {
      await this.#wire.writeFlawed(Buffer.from(right), act);
      await this.#endFlawed(act);
    } else {
      const last = act.at(-1) ?? 0;
      if (last === 0x90 || last === 0x92) this.#device.degrade();
      await this.#wire.write(Buffer.from(act));
      if (last >= 0x80) this.#socket.close();
      else await this.#socket.over();
    }
  }

  async #endFlawed(flaw: Fault["act"]): Promise<void> {
    if (flaw === "truncated") this.#socket.close();
    else await this.#socket.over();
  }
}

/** The image, or `undefined` where a device would give up: a window beyond 4 KiB, a broken stream, another size. */
function inflated(wire: Uint8Array, imageBytes: number): Buffer | undefined {
  try {
    const image = inflateRawSync(wire, { windowBits: 12, maxOutputLength: imageBytes });
    return image.length === imageBytes ? image : undefined;
  } catch {
    return undefined;
  }
}
