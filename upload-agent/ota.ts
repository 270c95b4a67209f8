/**
 * One over-the-air flash of an ESPHome device. docs/ota-protocol.md is the protocol.
 *
 * 1. The fence `mayStart` is asked right before each connection is opened and right before the size is sent; nothing is
 *    awaited between the question and the act.
 * 2. Until the first byte of the image is handed over, a failure has no effect on the device. From then on its effect is
 *    known only from the device itself: an error byte (it keeps its old build) or the last acknowledgement.
 * 3. Once the last byte is handed over, an abort is ignored: the device may commit by itself, and only waiting tells.
 * 4. Success is the byte `45` and nothing else; `44` says that all was received, and an error may still follow.
 * 5. Where encryption is required, a device that does not offer it gets no more than the greeting; where it is offered, a cipher
 *    that does not come about ends the flash and never falls back to plaintext.
 * 6. Nothing is tried twice; what the device or the network does is a value, never an exception.
 */
import { imageBytesMax } from "#protocol/artifact.ts";
import type { Failure } from "#protocol/failure.ts";
import { addressOfTarget, type OtaTarget } from "#protocol/job.ts";
import { stageLimits } from "#protocol/limits.ts";
import { DeviceConnection, resolveHost } from "#upload-agent/device-connection.ts";
import type { FlashEvent, FlashPhase, FlashResult } from "#upload-agent/flasher.ts";
import { OtaDialog } from "#upload-agent/ota-dialog.ts";
import { ended, interrupted, type Standing } from "#upload-agent/ota-failure.ts";
import { type EncryptionPlan, encrypt, notPossible, planEncryption } from "#upload-agent/ota-encryption.ts";
import { authenticate, negotiate, type Terms } from "#upload-agent/ota-handshake.ts";
import { packImage, type Payload } from "#upload-agent/ota-payload.ts";
import { answer, bigEndian32, blockBytes, type UpdateKind, updateByte } from "#upload-agent/ota-protocol.ts";

/** See `stageLimits`: `connecting` for one address, `negotiating`, and the silence of `flashing`. */
export interface OtaLimits {
  readonly connectMs: number;
  readonly handshakeMs: number;
  readonly silenceMs: number;
  readonly lastWordMs: number;
}

/** For an error byte behind a write that failed: it is on its way already. */
export const lastWordMs = 1_000;

const otaLimits: OtaLimits = {
  connectMs: stageLimits.connecting.totalMs,
  handshakeMs: stageLimits.negotiating.totalMs,
  silenceMs: stageLimits.flashing.silenceMs,
  lastWordMs,
};

/** A device is never ahead by more than flags, a request for a password and its nonce: 67 bytes. */
const unreadBytesMax = 1_024;

/** A longer timer would fire at once. */
const timerMsMax = 2 ** 31 - 1;

export interface OtaOptions {
  /** Before the image: ends the flash without effect. During it: breaks the connection. After it: ignored. */
  readonly signal: AbortSignal;
  /** For the whole flash, the name's resolution included. */
  readonly deadlineMs: number;
  /** Whether this flash still has the right to happen (invariant 1). */
  mayStart(): boolean;
  /** Told synchronously, once per block of 8 KiB; must not throw. */
  onEvent(event: FlashEvent): void;
  readonly limits?: Partial<OtaLimits>;
  /** Absent: the application. A bootloader or partition table that a device fails to write is `partial` and may be its end. */
  readonly updateKind?: UpdateKind;
}

/**
 * Flashes one image over the air and waits until the device has acknowledged it.
 * Failures: `image-unsuitable`, `encryption-required`, `device-unreachable`, `auth-rejected`, `device-refused`, `protocol`,
 * `upload-interrupted`, `deadline`; each with the effect it leaves on the device.
 */
export async function flashOverTheAir(target: OtaTarget, image: Uint8Array, options: OtaOptions): Promise<FlashResult> {
  if (image.length === 0 || image.length > imageBytesMax) {
    const detail = `${image.length} bytes are no image (1 to ${imageBytesMax})`;
    return { ok: false, failure: { kind: "image-unsuitable", detail } };
  }
  const plan = planEncryption(target);
  if ("kind" in plan) return { ok: false, failure: plan };
  return new OtaSession(target, image, plan, options).run();
}

const wordsOf = { "partition-table": "partition table", bootloader: "bootloader" } as const;

function isFailure(value: object): value is Failure {
  return "kind" in value;
}

/** Gives the event loop a turn: bytes of the device, the abort and the deadline get their chance between two blocks. */
const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

class OtaSession {
  readonly #target: OtaTarget;
  readonly #image: Uint8Array;
  readonly #plan: EncryptionPlan;
  readonly #options: OtaOptions;
  readonly #limits: OtaLimits;
  readonly #standing: Standing;
  readonly #giveUp = new AbortController();
  #connection: DeviceConnection | undefined;

  constructor(target: OtaTarget, image: Uint8Array, plan: EncryptionPlan, options: OtaOptions) {
    this.#target = target;
    this.#image = image;
    this.#plan = plan;
    this.#options = options;
    this.#limits = { ...otaLimits, ...options.limits };
    this.#standing = {
      address: addressOfTarget(target),
      deadlineMs: options.deadlineMs,
      silenceMs: this.#limits.silenceMs,
      phase: "connecting",
      sentBytes: 0,
      totalBytes: image.length,
      cutBy: undefined,
    };
  }

  async run(): Promise<FlashResult> {
    const onAbort = () => this.#cut("abort");
    this.#options.signal.addEventListener("abort", onAbort, { once: true });
    // One turn more than the deadline: an answer that came while this process was stopped counts.
    const timeUp = () => setImmediate(() => this.#cut("deadline"));
    const deadline = setTimeout(timeUp, Math.min(this.#options.deadlineMs, timerMsMax));
    if (this.#options.signal.aborted) onAbort();
    try {
      const done = await this.#flash();
      return isFailure(done)
        ? { ok: false, failure: done }
        : { ok: true, level: "committed", compression: done.compression, wireBytes: done.wire.length };
    } finally {
      clearTimeout(deadline);
      this.#options.signal.removeEventListener("abort", onAbort);
      // What the kernel still holds of an image that failed must not trickle on to the device.
      if (this.#standing.sentBytes > 0) this.#connection?.cut();
      this.#connection?.[Symbol.dispose]();
    }
  }

  async #flash(): Promise<Payload | Failure> {
    this.#enter("connecting");
    const connection = await this.#connect();
    if (isFailure(connection)) return connection;
    const dialog = new OtaDialog(connection, this.#standing, this.#limits.handshakeMs);

    this.#enter("negotiating");
    const terms = await negotiate(dialog, { hasKey: this.#plan.key !== undefined });
    if (isFailure(terms)) return terms;
    const misfit = this.#misfitOf(terms);
    if (misfit !== undefined) return misfit;
    this.#enter("authenticating");
    const authentication = await this.#authenticate(dialog, connection, terms);
    if (typeof authentication !== "string") return authentication;
    const { version, compression } = terms;

    this.#enter("preparing");
    const payload = await packImage(this.#image, compression);
    this.#standing.totalBytes = payload.wire.length;
    const unprepared = await this.#prepare(dialog, terms, payload);
    if (unprepared !== undefined) return unprepared;
    this.#enter("sending");
    const unsent = await this.#send(dialog, version, payload.wire);
    if (unsent !== undefined) return unsent;
    this.#enter("committing");
    return (await this.#awaitCommit(dialog)) ?? payload;
  }

  /** What the device offers and this flash cannot do with. */
  #misfitOf({ prologue, opensPartitions }: Terms): Failure | undefined {
    // Invariant 5.
    if (this.#plan.isRequired && prologue === undefined) {
      return notPossible(this.#standing.address, "the firmware that it runs does not offer encryption");
    }
    const { updateKind = "application" } = this.#options;
    if (updateKind === "application" || opensPartitions) return undefined;
    const detail = `the firmware that the device runs does not let its ${wordsOf[updateKind]} be replaced (allow_partition_access)`;
    return { kind: "image-unsuitable", detail };
  }

  /** Makes sure of each other: by the key of a cipher, by a password, or not at all, as the device wants it. */
  async #authenticate(
    dialog: OtaDialog,
    connection: DeviceConnection,
    { version, compression, prologue }: Terms,
  ): Promise<string | Failure> {
    const { key, lack } = this.#plan;
    const encrypted = key !== undefined && prologue !== undefined;
    if (encrypted) {
      const unsafe = await encrypt(dialog, connection, { key, prologue });
      if (unsafe !== undefined) return unsafe;
    }
    const shortfall = key === undefined ? lack : "the device does not offer encryption";
    const authentication = await authenticate(dialog, this.#target.password);
    if (typeof authentication !== "string") return authentication;
    this.#options.onEvent({
      kind: "negotiated",
      version,
      compression,
      authentication,
      encrypted,
      ...(encrypted || shortfall === undefined ? {} : { fallback: shortfall }),
    });
    return authentication;
  }

  async #connect(): Promise<DeviceConnection | Failure> {
    const { host, port } = this.#target;
    const signal = this.#giveUp.signal;
    const addresses = await resolveHost(host, { withinMs: this.#limits.connectMs, signal });
    if (this.#standing.cutBy !== undefined) return ended(this.#standing, { kind: "cut" }, undefined);
    const { address } = this.#standing;
    if ("kind" in addresses) return { kind: "device-unreachable", address, detail: addresses.detail };
    let detail = `${host} has no address`;
    for (const one of addresses) {
      // Invariant 1.
      if (!this.#options.mayStart()) {
        return interrupted(this.#standing, "the right to flash was lost before the connection");
      }
      const opened = await DeviceConnection.open(one, port, { ...this.#limits, unreadBytesMax, signal });
      if (opened instanceof DeviceConnection) this.#connection = opened;
      if (this.#standing.cutBy !== undefined) return ended(this.#standing, { kind: "cut" }, undefined);
      if (opened instanceof DeviceConnection) return opened;
      detail = opened.detail;
    }
    return { kind: "device-unreachable", address, detail };
  }

  async #prepare(dialog: OtaDialog, terms: Terms, payload: Payload): Promise<Failure | undefined> {
    const announcement = [
      ...(terms.extended ? [Uint8Array.of(updateByte[this.#options.updateKind ?? "application"])] : []),
      bigEndian32(payload.wire.length),
      ...(terms.compression === "deflate" ? [bigEndian32(this.#image.length)] : []),
    ];
    const trouble = dialog.trouble();
    if (trouble !== undefined) return trouble;
    // Invariant 1.
    if (!this.#options.mayStart()) {
      return interrupted(this.#standing, "the right to flash was lost before the image was announced");
    }
    const prepared = await dialog.tell(announcement, [answer.prepared]);
    if (typeof prepared !== "number") return prepared;
    const noted = await dialog.tell([Buffer.from(payload.md5, "latin1")], [answer.checksumNoted]);
    return typeof noted === "number" ? undefined : noted;
  }

  async #send(dialog: OtaDialog, version: 1 | 2, wire: Uint8Array): Promise<Failure | undefined> {
    const standing = this.#standing;
    while (standing.sentBytes < wire.length) {
      await turn();
      // Between two blocks a device has nothing to say but an error, and it hangs up after that.
      const trouble = dialog.trouble();
      if (trouble !== undefined) return trouble;
      const block = wire.subarray(standing.sentBytes, standing.sentBytes + blockBytes);
      // Counted before it is written: a write that fails may have reached the device (invariant 2).
      standing.sentBytes += block.length;
      const unsent = await dialog.send(block);
      if (unsent !== undefined) return unsent;
      if (version === 2) {
        const taken = await dialog.expect([answer.blockTaken]);
        if (typeof taken !== "number") return taken;
      }
      this.#options.onEvent({ kind: "progress", sentBytes: standing.sentBytes, totalBytes: wire.length });
    }
    return undefined;
  }

  async #awaitCommit(dialog: OtaDialog): Promise<Failure | undefined> {
    const received = await dialog.expect([answer.received]);
    if (typeof received !== "number") return received;
    const committed = await dialog.expect([answer.committed]);
    if (typeof committed !== "number") return committed;
    // A courtesy: the device restarts into the new build whether it hears this or not.
    await dialog.finish(Uint8Array.of(answer.ok));
    return undefined;
  }

  #enter(phase: FlashPhase): void {
    this.#standing.phase = phase;
    this.#options.onEvent({ kind: "phase", phase });
  }

  /** Invariant 3: an abort that comes too late changes nothing. */
  #cut(by: "abort" | "deadline"): void {
    const { sentBytes, totalBytes } = this.#standing;
    if (by === "abort" && sentBytes === totalBytes) return;
    this.#standing.cutBy ??= by;
    this.#giveUp.abort();
    this.#connection?.cut();
  }
}
