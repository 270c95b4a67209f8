/** Four words that stand for a machine's keys and the farm: both sides show them, and a person compares. */
import { createHash } from "node:crypto";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import type { SealKey, UserKey } from "#protocol/pairing.ts";

/** Of 2,048 words each stands for 11 bits. Whoever wants other keys with the same words has to make 2^44 of them before the code ends. */
const wordCount = 4;
const wordBits = 11n;

export function pairingWords(pin: string, user: UserKey, seal: SealKey): string {
  const digest = createHash("sha256")
    .update(JSON.stringify(["flashyard words 1", pin, user, seal]))
    .digest("hex");
  const number = BigInt(`0x${digest}`);
  const words = Array.from({ length: wordCount }, (_, at) => {
    const shift = 256n - wordBits * BigInt(at + 1);
    return wordlist[Number((number >> shift) & ((1n << wordBits) - 1n))] ?? "";
  });
  return words.join(" ");
}
