/** Question and answer with a device during a flash; whatever is not the wanted answer becomes a failure. */
import type { Failure } from "#protocol/failure.ts";
import type { DeviceLine, Ending } from "#upload-agent/device-connection.ts";
import { ended, refused, type Standing } from "#upload-agent/ota-failure.ts";

export class OtaDialog {
  readonly standing: Standing;
  readonly #handshakeUntil: number;
  #line: DeviceLine;

  /** @param handshakeMs in total from now to the accepted password; afterwards each sign of the device starts `silenceMs` anew. */
  constructor(line: DeviceLine, standing: Standing, handshakeMs: number) {
    this.#line = line;
    this.standing = standing;
    this.#handshakeUntil = performance.now() + handshakeMs;
  }

  /** What comes now goes through a cipher. */
  goOn(line: DeviceLine): void {
    this.#line = line;
  }

  /** Sends the fields of one step and expects the device's answer to it. @returns the answer, one of `wanted`. */
  async tell(fields: readonly Uint8Array[], wanted: readonly number[]): Promise<number | Failure> {
    return (await this.send(...fields)) ?? this.expect(wanted);
  }

  async send(...fields: readonly Uint8Array[]): Promise<Failure | undefined> {
    const ending = await this.#line.write(fields, this.patienceMs);
    return ending === undefined ? undefined : this.failureOf(ending);
  }

  /** One byte of the device. @returns the byte, one of `wanted`. */
  async expect(wanted: readonly number[]): Promise<number | Failure> {
    const taken = await this.take(1);
    if (!(taken instanceof Uint8Array)) return taken;
    const byte = taken[0] ?? 0;
    return wanted.includes(byte) ? byte : refused(this.standing, byte);
  }

  /** The next `count` bytes of the device, whatever they are. */
  async take(count: number): Promise<Uint8Array | Failure> {
    const bytes = await this.#line.read(count, this.patienceMs);
    return bytes instanceof Uint8Array ? bytes : this.failureOf(bytes);
  }

  /** Why the session cannot go on although the device was not asked anything: it broke, or the device spoke out of turn. */
  trouble(): Failure | undefined {
    const { nextByte, ending } = this.#line;
    if (ending !== undefined) return this.failureOf(ending);
    return nextByte === undefined ? undefined : refused(this.standing, nextByte);
  }

  failureOf(ending: Ending): Failure {
    return ended(this.standing, ending, this.#line.nextByte);
  }

  /** Says the last words; nobody waits for an answer. */
  async finish(bytes: Uint8Array): Promise<void> {
    await this.#line.finish(bytes);
  }

  /** How long the device may take now. */
  get patienceMs(): number {
    const { phase, silenceMs } = this.standing;
    const isHandshake = phase === "negotiating" || phase === "authenticating";
    return isHandshake ? Math.max(0, this.#handshakeUntil - performance.now()) : silenceMs;
  }
}
