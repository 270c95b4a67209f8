/**
 * The cipher of ESPHome's over-the-air updates and native API: `Noise_NNpsk0_25519_ChaChaPoly_SHA256` (Noise specification,
 * revision 34). No I/O. Two messages, each a fresh public key and a sealed payload, agree on one cipher for each direction;
 * who does not know the pre-shared key can neither read nor make them.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { InvariantError } from "#protocol/errors.ts";

const protocolName = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
const hashBytes = 32;

const noiseKeyBytes = 32;
/** Appended to every sealed text. */
export const macBytes = 16;
/** A message of the handshake without payload: a public key and a MAC. */
export const handshakeBytes = 32 + macBytes;

const nothing = new Uint8Array(0);

/**
 * The 32 bytes of a key in base64. `undefined` for any other text, and for 32 zeros: a device without a key answers to those.
 */
export function decodeNoiseKey(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined;
  const key = Buffer.from(text, "base64");
  return key.some((byte) => byte !== 0) ? key : undefined;
}

/** Seals or opens the messages of one direction, in their order (specification, section 5.1). */
export class NoiseCipher {
  readonly #key: Uint8Array;
  #count = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  seal(text: Uint8Array, associated: Uint8Array = nothing): Uint8Array {
    const cipher = createCipheriv("chacha20-poly1305", this.#key, this.#nextNonce(), { authTagLength: macBytes });
    cipher.setAAD(associated, { plaintextLength: text.length });
    return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  }

  /** @returns `undefined` for what was not sealed with this key as the next message, or was changed since. */
  open(sealed: Uint8Array, associated: Uint8Array = nothing): Uint8Array | undefined {
    if (sealed.length < macBytes) return undefined;
    const split = sealed.length - macBytes;
    const cipher = createDecipheriv("chacha20-poly1305", this.#key, this.#nextNonce(), { authTagLength: macBytes });
    cipher.setAAD(associated, { plaintextLength: split });
    cipher.setAuthTag(sealed.subarray(split));
    try {
      return Buffer.concat([cipher.update(sealed.subarray(0, split)), cipher.final()]);
    } catch {
      return undefined;
    }
  }

  /** Four zero bytes and the number of messages before this one, least significant byte first. */
  #nextNonce(): Uint8Array {
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64LE(BigInt(this.#count), 4);
    if (++this.#count > Number.MAX_SAFE_INTEGER) throw new InvariantError("noise-nonce", "a nonce would be used twice");
    return nonce;
  }
}

export interface NoiseCiphers {
  readonly sending: NoiseCipher;
  readonly receiving: NoiseCipher;
}

export interface NoiseOptions {
  readonly role: "initiator" | "responder";
  /** Pre-shared, 32 bytes. */
  readonly key: Uint8Array;
  /** What both sides have said before: when they saw it differently, the first message is refused. */
  readonly prologue: Uint8Array;
  /** The private key of this session, 32 bytes; a fresh one, except where a test vector gives it. */
  readonly ephemeral?: Uint8Array;
}

/** One handshake: the initiator writes and reads, the responder reads and writes; then each splits it into its two ciphers. */
export class NoiseHandshake {
  readonly #role: NoiseOptions["role"];
  readonly #private: KeyObject;
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  #cipher: NoiseCipher;
  #remote: Uint8Array | undefined;

  constructor({ role, key, prologue, ephemeral = randomBytes(32) }: NoiseOptions) {
    if (key.length !== noiseKeyBytes) throw new InvariantError("noise-key", `a key of ${key.length} bytes`);
    this.#role = role;
    this.#private = privateKeyOf(ephemeral);
    this.#hash = digest(Buffer.from(protocolName));
    this.#chainingKey = this.#hash;
    this.#mixHash(prologue);
    // `psk0`: the key comes before everything else.
    const [chainingKey, hashed, cipherKey] = derive(this.#chainingKey, key, 3);
    this.#chainingKey = chainingKey;
    this.#mixHash(hashed);
    this.#cipher = new NoiseCipher(cipherKey);
  }

  /** The hash of all that was said: equal on both sides and nowhere else. */
  get hash(): Uint8Array {
    return this.#hash;
  }

  /** This side's message. */
  write(payload: Uint8Array = nothing): Uint8Array {
    const own = publicBytesOf(this.#private);
    this.#mixPublicKey(own);
    if (this.#role === "responder") this.#mixSecret();
    const sealed = this.#cipher.seal(payload, this.#hash);
    this.#mixHash(sealed);
    return Buffer.concat([own, sealed]);
  }

  /** The other side's message. @returns its payload; `undefined` when it was made with another key or another prologue. */
  read(message: Uint8Array): Uint8Array | undefined {
    if (message.length < handshakeBytes) return undefined;
    this.#remote = message.subarray(0, 32);
    this.#mixPublicKey(this.#remote);
    if (this.#role === "initiator" && !this.#mixSecret()) return undefined;
    const sealed = message.subarray(32);
    const payload = this.#cipher.open(sealed, this.#hash);
    this.#mixHash(sealed);
    return payload;
  }

  /** After both messages. */
  split(): NoiseCiphers {
    const [first, second] = derive(this.#chainingKey, nothing, 2).map((key) => new NoiseCipher(key));
    if (first === undefined || second === undefined) throw new InvariantError("noise-split", "a key is missing");
    return this.#role === "initiator" ? { sending: first, receiving: second } : { sending: second, receiving: first };
  }

  #mixPublicKey(key: Uint8Array): void {
    this.#mixHash(key);
    this.#mixKey(key);
  }

  /** @returns false for a public key that leads to no secret. */
  #mixSecret(): boolean {
    if (this.#remote === undefined) throw new InvariantError("noise-order", "the other side has not spoken yet");
    const secret = sharedSecret(this.#private, this.#remote);
    if (secret !== undefined) this.#mixKey(secret);
    return secret !== undefined;
  }

  #mixKey(material: Uint8Array): void {
    const [chainingKey, cipherKey] = derive(this.#chainingKey, material, 2);
    this.#chainingKey = chainingKey;
    this.#cipher = new NoiseCipher(cipherKey);
  }

  #mixHash(bytes: Uint8Array): void {
    this.#hash = digest(this.#hash, bytes);
  }
}

function digest(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

type Derived<Count extends 2 | 3> = Count extends 2
  ? readonly [Uint8Array, Uint8Array]
  : readonly [Uint8Array, Uint8Array, Uint8Array];

/** HKDF of the specification (section 4.3): RFC 5869 with the chaining key as salt and without further information. */
function derive<Count extends 2 | 3>(chainingKey: Uint8Array, material: Uint8Array, count: Count): Derived<Count> {
  const bytes = Buffer.from(hkdfSync("sha256", material, chainingKey, nothing, count * hashBytes));
  const keys = Array.from({ length: count }, (_, index) => bytes.subarray(index * hashBytes, (index + 1) * hashBytes));
  return keys as readonly Uint8Array[] as Derived<Count>;
}

/** What stands before the 32 bytes of an X25519 key in DER (RFC 8410). */
const privateKeyHead = Buffer.from("302e020100300506032b656e04220420", "hex");
const publicKeyHead = Buffer.from("302a300506032b656e032100", "hex");

function privateKeyOf(bytes: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([privateKeyHead, bytes]), format: "der", type: "pkcs8" });
}

function publicBytesOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ format: "der", type: "spki" }).subarray(publicKeyHead.length);
}

/** `undefined` for a public key of small order, which would make the secret one that everybody knows. */
function sharedSecret(privateKey: KeyObject, publicBytes: Uint8Array): Uint8Array | undefined {
  try {
    const publicKey = createPublicKey({
      key: Buffer.concat([publicKeyHead, publicBytes]),
      format: "der",
      type: "spki",
    });
    return diffieHellman({ privateKey, publicKey });
  } catch {
    return undefined;
  }
}
