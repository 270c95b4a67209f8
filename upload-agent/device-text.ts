/** Text that a device sent: untrusted, and shown to people. */

/** ESPHome cuts names at 31 and versions at 20 characters. */
const textLengthMax = 120;

/** The text without what could rearrange a terminal or a page, at most 120 characters. */
export function plainText(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 4 * textLengthMax)).toString("utf8");
  return Array.from(text.replaceAll(/[\p{C}\u2028\u2029]/gu, ""))
    .slice(0, textLengthMax)
    .join("");
}
