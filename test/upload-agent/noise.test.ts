/** The cipher, against a vector that nobody of this project made, and against itself. */
import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { decodeNoiseKey, handshakeBytes, NoiseCipher, NoiseHandshake, type NoiseOptions } from "#upload-agent/noise.ts";

const bytes = (hex: string) => Buffer.from(hex, "hex");
const hex = (data: Uint8Array | undefined) => data && Buffer.from(data).toString("hex");

/** Of the vectors of cacophony, the Haskell implementation, as the crate `snow` 0.9.6 ships them. */
const vector = {
  prologue: bytes("4a6f686e2047616c74"),
  key: bytes("54686973206973206d7920417573747269616e20706572737065637469766521"),
  initiator: bytes("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
  responder: bytes("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
  hash: "f4d03dc34495c95729ea6de9e1b59004b59733102488b3e24bc441e0be208eaf",
  messages: [
    [
      "4c756477696720766f6e204d69736573",
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794479b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54",
    ],
    [
      "4d757272617920526f746862617264",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3",
    ],
    ["462e20412e20486179656b", "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f"],
    ["4361726c204d656e676572", "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e"],
    ["4a65616e2d426170746973746520536179", "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8"],
    [
      "457567656e2042f6686d20766f6e2042617765726b",
      "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebdef8b8ca111",
    ],
  ] as const,
};

const side = (role: NoiseOptions["role"], over: Partial<NoiseOptions> = {}) =>
  new NoiseHandshake({ role, key: vector.key, prologue: vector.prologue, ...over });

/** Both sides after a handshake, each with its ciphers. */
function agreed() {
  const [client, device] = [side("initiator"), side("responder")];
  expect(device.read(client.write())).toHaveLength(0);
  expect(client.read(device.write())).toHaveLength(0);
  return { client: client.split(), device: device.split() };
}

describe("the handshake", () => {
  it("writes and reads the bytes of an independent vector, and so do the ciphers after it", () => {
    const client = side("initiator", { ephemeral: vector.initiator });
    const device = side("responder", { ephemeral: vector.responder });
    const [first, second, ...rest] = vector.messages;
    expect(hex(client.write(bytes(first[0])))).toBe(first[1]);
    expect(hex(device.read(bytes(first[1])))).toBe(first[0]);
    expect(hex(device.write(bytes(second[0])))).toBe(second[1]);
    expect(hex(client.read(bytes(second[1])))).toBe(second[0]);
    expect([hex(client.hash), hex(device.hash)]).toEqual([vector.hash, vector.hash]);
    const [ours, theirs] = [client.split(), device.split()];
    for (const [index, [payload, sealed]] of rest.entries()) {
      const [from, to] = index % 2 === 0 ? [ours, theirs] : [theirs, ours];
      expect(hex(from.sending.seal(bytes(payload)))).toBe(sealed);
      expect(hex(to.receiving.open(bytes(sealed)))).toBe(payload);
    }
  });

  it("has messages of 48 bytes without payload, and other ones each time", () => {
    const [one, other] = [side("initiator").write(), side("initiator").write()];
    expect([one.length, other.length]).toEqual([handshakeBytes, handshakeBytes]);
    expect(hex(one)).not.toBe(hex(other));
  });

  it("is refused by a device with another key or another idea of what was said before", () => {
    const opening = side("initiator").write();
    expect(side("responder", { key: randomBytes(32) }).read(opening)).toBeUndefined();
    expect(side("responder", { prologue: Buffer.from("John Galt!") }).read(opening)).toBeUndefined();
  });

  it("is refused when any bit of either message was changed", () => {
    for (let at = 0; at < handshakeBytes; at++) {
      const [client, device] = [side("initiator"), side("responder")];
      const opening = Buffer.from(client.write());
      const changed = Buffer.from(opening);
      changed[at]! ^= 1;
      expect(side("responder").read(changed)).toBeUndefined();
      device.read(opening);
      const answer = Buffer.from(device.write());
      answer[at]! ^= 1;
      expect(client.read(answer)).toBeUndefined();
    }
  });

  it("is refused when the device's public key leads to a secret that everybody knows", () => {
    const client = side("initiator");
    client.write();
    expect(client.read(new Uint8Array(handshakeBytes))).toBeUndefined();
  });

  it.each([0, 1, 31, 32, 47])("is refused when a message has only %i bytes", (length) => {
    expect(side("responder").read(side("initiator").write().subarray(0, length))).toBeUndefined();
  });
});

describe("a cipher", () => {
  it("opens what the other side sealed, in its order and no other", () => {
    const { client, device } = agreed();
    const sealed = ["a", "b", "c"].map((text) => client.sending.seal(Buffer.from(text)));
    expect(hex(device.receiving.open(sealed[0]!))).toBe("61");
    expect(device.receiving.open(sealed[2]!)).toBeUndefined();
    expect(device.receiving.open(sealed[0]!)).toBeUndefined();
  });

  it("is another one for each direction", () => {
    const { client } = agreed();
    expect(client.receiving.open(client.sending.seal(Buffer.from("echo")))).toBeUndefined();
  });

  it("refuses what is shorter than its MAC", () => {
    expect(new NoiseCipher(vector.key).open(new Uint8Array(15))).toBeUndefined();
  });
});

describe("a key", () => {
  it("is 32 bytes in base64 and not all zeros", () => {
    expect(hex(decodeNoiseKey(vector.key.toString("base64")))).toBe(hex(vector.key));
    const others = [
      "",
      "Zm9v",
      Buffer.alloc(32).toString("base64"),
      randomBytes(33).toString("base64"),
      "x".repeat(44),
    ];
    expect(others.map(decodeNoiseKey)).toEqual(others.map(() => undefined));
  });
});
