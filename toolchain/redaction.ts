/**
 * Keeps a configuration's secrets out of what its build prints: logs and failures are stored, and shown to whoever may look.
 *
 * What counts as a secret: every value of a secrets file, and what stands in a YAML file below a key that says so. A build that
 * prints a secret in another form (in parts, encoded) prints it.
 */
import { basename } from "node:path";
import { isMap, isScalar, parseDocument, visit } from "yaml";
import type { Failure } from "#protocol/failure.ts";

/** Shorter ones are words, and would turn up everywhere: `on`, `abc`, a port. */
const shortestChars = 4;
const secretKey = /^(.*_)?(password|passphrase|psk|secret|token)$|^(.*_)?encryption_key$/;
/** `key:` is a secret where it is 32 bytes in base64, as those of API and update server are; and otherwise a name. */
const keyOf32Bytes = /^[A-Za-z0-9+/]{43}=$/;

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

/** The secrets of one YAML file. Pure. */
export function secretsIn(path: string, text: string): readonly NamedSecret[] {
  const isOfSecrets = isSecretsFile(path);
  const found: NamedSecret[] = [];
  visit(parseDocument(text, asText), {
    Pair: (_key, { key, value }, path) => {
      if (!isScalar(key) || !isScalar(value) || value.tag === "!secret") return;
      const [name, secret] = [String(key.value), String(value.value)];
      const isTop = path.filter(isMap).length === 1;
      const counts = isOfSecrets ? isTop : secretKey.test(name) || (name === "key" && keyOf32Bytes.test(secret));
      if (counts && secret.length >= shortestChars) found.push({ name, value: secret });
    },
  });
  return found;
}

/** @returns what takes the secrets out of a line. Pure. */
export function redactor(secrets: readonly NamedSecret[]): (line: string) => string {
  // One that holds another goes first.
  const ordered = secrets.toSorted((a, b) => b.value.length - a.value.length);
  return (line) => ordered.reduce((text, { name, value }) => text.replaceAll(value, `«secret ${name}»`), line);
}

/** A failure whose lines of a tool have been redacted. */
export function redactFailure<T extends Failure>(failure: T, redact: (line: string) => string): T {
  return "tail" in failure ? { ...failure, tail: failure.tail.map(redact) } : failure;
}
