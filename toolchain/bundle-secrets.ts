/**
 * Finds secrets that ESPHome left out of a bundle. Its scan for `!secret` (bundle.py, `_SECRET_RE`, 2026.10.0) takes
 * everything up to the next blank or quote as the key, so in flow style, `[{password: !secret wifi}]`, it looks for a secret
 * called `wifi}]`, finds none, and the build on the other machine fails or gets an empty secrets file.
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isMap, isScalar, LineCounter, parseDocument, visit } from "yaml";
import { isSecretsFile } from "#toolchain/redaction.ts";

export interface LostSecret {
  readonly key: string;
  /** The YAML file inside the bundle, and the line of the reference, from 1. */
  readonly file: string;
  readonly line: number;
}

/**
 * @param files the bundle's files by path; @param folder where the bundle was made from.
 * @returns references to secrets that exist beside the configuration but not in the bundle. A secret that exists nowhere is
 * ESPHome's to complain about.
 */
export async function lostSecrets(files: ReadonlyMap<string, Buffer>, folder: string): Promise<readonly LostSecret[]> {
  const yaml = [...files].filter(([path]) => /\.ya?ml$/.test(path));
  const shipped = new Set(
    yaml.filter(([path]) => isSecretsFile(path)).flatMap(([, bytes]) => keysOf(bytes.toString("utf8"))),
  );
  const used = yaml
    .filter(([path]) => !isSecretsFile(path))
    .flatMap(([path, bytes]) => referencesIn(path, bytes.toString("utf8")))
    .filter(({ key }) => !shipped.has(key));
  if (used.length === 0) return [];
  const local = new Map<string, readonly string[]>();
  for (const near of new Set([".", ...used.map(({ file }) => dirname(file))])) {
    const text = await readFile(join(folder, near, "secrets.yaml"), "utf8").catch(() => "");
    local.set(near, keysOf(text));
  }
  return used.filter(({ key, file }) => [".", dirname(file)].some((near) => local.get(near)?.includes(key) === true));
}

/** ESPHome's tags (`!lambda`, `!include`, …) stay unresolved, and every scalar stays text. */
const asText = { schema: "failsafe", logLevel: "silent", uniqueKeys: false } as const;

function keysOf(text: string): readonly string[] {
  const { contents } = parseDocument(text, asText);
  return isMap(contents) ? contents.items.map((pair) => (isScalar(pair.key) ? String(pair.key.value) : "")) : [];
}

function referencesIn(file: string, text: string): readonly LostSecret[] {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { ...asText, lineCounter });
  const found: LostSecret[] = [];
  visit(document, {
    Scalar: (_key, node) => {
      if (node.tag === "!secret") {
        found.push({ key: String(node.value), file, line: lineCounter.linePos(node.range?.[0] ?? 0).line });
      }
    },
  });
  return found;
}
