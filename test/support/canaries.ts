/** Secrets that exist in one farm of one test, and the search for them wherever they must not be. */
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Canary {
  readonly name: string;
  readonly value: string;
}

export function newCanaries(names: readonly string[]): readonly Canary[] {
  return names.map((name) => ({ name, value: `canary${randomBytes(12).toString("hex")}` }));
}

/** A key of 32 bytes as ESPHome writes it. */
export function keyCanary(name: string): Canary {
  return { name, value: randomBytes(32).toString("base64") };
}

export interface Hit {
  readonly canary: string;
  readonly encoding: string;
  readonly where: string;
}

type Form = Omit<Hit, "where"> & { readonly bytes: Buffer };

export class CanarySearch {
  readonly #forms: readonly Form[];
  readonly hits: Hit[] = [];
  /** Bytes that were looked through. */
  bytes = 0;

  constructor(canaries: readonly Canary[]) {
    this.#forms = canaries.flatMap(formsOf);
  }

  look(where: string, bytes: Buffer): void {
    this.bytes += bytes.length;
    for (const { canary, encoding, bytes: form } of this.#forms) {
      if (bytes.includes(form)) this.hits.push({ canary, encoding, where });
    }
  }

  /** Everything below a folder but what is left out; what goes meanwhile is passed over. */
  lookBelow(folder: string, isLeftOut: (path: string) => boolean = () => false): void {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || isLeftOut(path)) continue;
      const content = readOrNothing(path);
      if (content !== undefined) this.look(path, content);
    }
  }

  /** Arguments and environments of all processes of this machine. */
  lookAtProcesses(): void {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      for (const file of ["cmdline", "environ"]) {
        const content = readOrNothing(`/proc/${pid}/${file}`);
        if (content !== undefined) this.look(`/proc/${pid}/${file}`, content);
      }
    }
  }
}

function readOrNothing(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function formsOf({ name, value }: Canary): readonly Form[] {
  const plain = Buffer.from(value);
  const form = (encoding: string, bytes: Buffer | string): Form => ({
    canary: name,
    encoding,
    bytes: Buffer.from(bytes as string),
  });
  return [
    form("plain", plain as unknown as string),
    form("hex", plain.toString("hex")),
    form("HEX", plain.toString("hex").toUpperCase()),
    form("utf-16", Buffer.from(value, "utf16le") as unknown as string),
    form("uri", encodeURIComponent(value)),
    form("json", JSON.stringify(value).slice(1, -1)),
    ...[0, 1, 2].flatMap((offset) => [
      form(`base64 at ${offset}`, base64At(plain, offset)),
      form(`base64url at ${offset}`, base64At(plain, offset).replaceAll("+", "-").replaceAll("/", "_")),
    ]),
  ];
}

/** The part of the text that is the same whatever stands `offset` bytes before the value, and behind it. */
function base64At(plain: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), plain])
    .toString("base64")
    .replaceAll("=", "");
  const [from, rest] = [offset === 0 ? 0 : offset + 1, (offset + plain.length) % 3];
  return text.slice(from, rest === 0 ? text.length : text.length - 1);
}
