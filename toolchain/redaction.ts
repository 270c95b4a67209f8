/**
 * Keeps a configuration's secrets out of what its build prints: logs and failures are stored, and shown to whoever may look.
 *
 * What counts as a secret: every value of a secrets file, and what stands in a YAML file below a key that says so. Of a value of several
 * lines each line is one. It is known as it is, and as C++, JSON, Python and YAML write it. A build that prints it in another form (in
 * parts, encoded, across the place where a line of 4,096 characters is cut) prints it.
 */
import { basename } from "node:path";
import { isMap, isScalar, parseDocument, visit } from "yaml";

/** Shorter ones are words, and would turn up everywhere: `on`, `abc`, a port. */
const shortestChars = 4;
const secretKey = /^(.*_)?(password|passphrase|psk|secret|token)$|^(.*_)?encryption_key$/;
/** `key:` is a secret where it is 32 bytes in base64, as those of API and update server are; and otherwise a name. */
const keyOf32Bytes = /^[A-Za-z0-9+/]{43}=$/;

/** A line as it may be shown. */
export type Redact = (line: string) => string;

export interface NamedSecret {
  readonly name: string;
  readonly value: string;
}

/** ESPHome's tags (`!lambda`, `!secret`, …) stay unresolved, and every scalar stays text. */
const asText = { schema: "failsafe", logLevel: "silent", uniqueKeys: false } as const;

/** As ESPHome calls the file to which `!secret` refers. */
export function isSecretsFile(path: string): boolean {
  return /^secrets\.ya?ml$/.test(basename(path));
}

/** The secrets of one YAML file; one of several lines is as many. Pure. */
export function secretsIn(path: string, text: string): readonly NamedSecret[] {
  const isOfSecrets = isSecretsFile(path);
  const found: NamedSecret[] = [];
  visit(parseDocument(text, asText), {
    Pair: (_key, { key, value }, path) => {
      if (!isScalar(key) || !isScalar(value) || value.tag === "!secret") return;
      const [name, text] = [String(key.value), String(value.value)];
      const isTop = path.filter(isMap).length === 1;
      const counts = isOfSecrets ? isTop : secretKey.test(name) || (name === "key" && keyOf32Bytes.test(text));
      const lines = counts ? text.split(/[\r\n]+/).map((line) => line.trim()) : [];
      for (const line of lines) if (line.length >= shortestChars) found.push({ name, value: line });
    },
  });
  return found;
}

/** @returns what takes the secrets out of a line; takes 10,000 of them. Pure. */
export function redactor(secrets: readonly NamedSecret[]): Redact {
  const names = new Map<string, string>();
  for (const { name, value } of secrets) {
    for (const form of formsOf(value)) if (!names.has(form)) names.set(form, `«secret ${shownName(name)}»`);
  }
  // One that holds another goes first. A mark holds no secret, as the name of one may.
  const marked = [...names]
    .toSorted(([a], [b]) => b.length - a.length)
    .map(([form, shown], index) => ({ form, shown, mark: String.fromCodePoint(firstMark + index) }));
  return (line) => {
    const found = marked.filter(({ form }) => line.includes(form));
    if (found.length === 0) return line;
    const withMarks = found.reduce((text, { form, mark }) => text.replaceAll(form, mark), line);
    return found.reduce((text, { mark, shown }) => text.replaceAll(mark, shown), withMarks);
  };
}

/** Plane 15, which is for private use and has 65,534 characters. */
const firstMark = 0xf0000;

/** Names come into lines that are clean already. */
function shownName(name: string): string {
  return name.replaceAll(/[^\w.-]/g, "?").slice(0, 60);
}

function formsOf(value: string): readonly string[] {
  const inJson = JSON.stringify(value).slice(1, -1);
  return [value, asCString(value), inJson, value.replaceAll("\\", "\\\\"), value.replaceAll("'", "''")];
}

/** As ESPHome writes a text into its C++: bytes that need it in octal (esphome/helpers.py, `cpp_string_escape`, 2026.10.0). */
function asCString(text: string): string {
  return [...Buffer.from(text, "utf8")]
    .map((byte) => {
      const isPlain = byte >= 32 && byte < 127 && byte !== 0x22 && byte !== 0x5c;
      return isPlain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, "0")}`;
    })
    .join("");
}
