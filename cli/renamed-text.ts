/** Gives the text of a configuration another device name, and leaves everything else in it as it is. Pure. */
import { type Document, isAlias, isMap, isScalar, parseDocument, type Scalar, type YAMLMap } from "yaml";

export type Renamed =
  | { readonly ok: true; readonly text: string }
  /** Where the name comes from, and what to do, as the end of a sentence about the file. */
  | { readonly ok: false; readonly reason: string };

/**
 * Replaces `esphome: name:`, or the definition of the substitution that it is. The new name keeps the old one's quotes.
 * @param name a valid name of ESPHome
 */
export function renamedText(text: string, name: string): Renamed {
  // Tags such as !secret and !include are ESPHome's own; what stands on them is never touched.
  const document = parseDocument(text, { schema: "failsafe", logLevel: "silent", uniqueKeys: false });
  const [error] = document.errors;
  if (error !== undefined) return refused(`it is no YAML that can be edited: ${error.message.split("\n")[0] ?? ""}`);
  const place = placeOfName(document);
  if (typeof place === "string") return refused(place);
  const [start = 0, end = 0] = place.range ?? [];
  return { ok: true, text: text.slice(0, start) + written(name, place) + text.slice(end) };
}

function refused(reason: string): Renamed {
  return { ok: false, reason };
}

const substitution = /^\$(?:\{\s*([a-zA-Z0-9_]+)\s*\}|([a-zA-Z0-9_]+))$/;

/** The value to replace, or why there is none. */
function placeOfName(document: Document): Scalar<string> | string {
  const esphome = sectionOf(document, "esphome");
  if (esphome?.has("name") !== true) {
    return "it has no `esphome: name:` of its own (a package or an include gives it): write `name:` below `esphome:` in this file, then rename";
  }
  const name = literal(esphome.get("name", true));
  if (typeof name === "string") return `its \`esphome: name:\` is ${name}: write the name itself there, then rename`;
  if (!name.value.includes("$")) return name;
  const [, inBraces, bare] = substitution.exec(name.value) ?? [];
  const key = inBraces ?? bare;
  if (key === undefined) {
    return `its name is put together as ${JSON.stringify(name.value)}: change what it is made of, then install`;
  }
  const substitutions = sectionOf(document, "substitutions");
  if (substitutions?.has(key) !== true) {
    return `its name is the substitution ${key}, which this file does not define (a package or an include does): define it below \`substitutions:\` in this file, then rename`;
  }
  const definition = literal(substitutions.get(key, true));
  if (typeof definition !== "string" && !definition.value.includes("$")) return definition;
  const what = typeof definition === "string" ? definition : JSON.stringify(definition.value);
  return `its name is the substitution ${key}, which is ${what}: write the name itself there, then rename`;
}

function sectionOf(document: Document, key: string): YAMLMap | undefined {
  const root = document.contents;
  const section = isMap(root) ? root.get(key, true) : undefined;
  return isMap(section) ? section : undefined;
}

/** A plain or quoted text, or what it is instead. */
function literal(node: unknown): Scalar<string> | string {
  if (isAlias(node)) return `the alias *${node.source}`;
  if (!isScalar(node) || typeof node.value !== "string") return "no text";
  if (node.tag?.startsWith("!") === true) return `a ${node.tag}`;
  if (node.type === "BLOCK_FOLDED" || node.type === "BLOCK_LITERAL") return "a block of text";
  return node as Scalar<string>;
}

/** Words and numbers that YAML 1.1, which ESPHome reads, does not take for text. */
const notText = /^(y|n|yes|no|on|off|true|false|null|[\d._-].*)$/;

function written(name: string, { type }: Scalar<string>): string {
  if (type === "QUOTE_SINGLE") return `'${name}'`;
  return type === "QUOTE_DOUBLE" || notText.test(name) ? `"${name}"` : name;
}
