/** Messages of multicast DNS as a device writes and reads them (RFC 1035, section 4), with names that point back to earlier ones. */

export const recordType = { A: 1, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, ANY: 255 } as const;

export interface Asked {
  /** In lower case. */
  readonly name: string;
  readonly type: number;
}

interface RecordHead {
  readonly name: string;
  readonly ttlSeconds: number;
}

export type DeviceRecord = RecordHead &
  (
    | { readonly type: "PTR"; readonly target: string }
    | { readonly type: "SRV"; readonly target: string; readonly port: number }
    | { readonly type: "TXT"; readonly texts: readonly string[] }
    | { readonly type: "A" | "AAAA"; readonly address: string }
  );

const internet = 1;
/** "Forget what you knew of this": for everything that only one device has. */
const cacheFlush = 0x8000;
const authoritativeAnswer = 0x8400;
const isAnswer = 0x8000;
const pointer = 0xc000;

class MessageWriter {
  readonly #parts: Buffer[] = [];
  readonly #names = new Map<string, number>();
  #length = 0;

  bytes(bytes: Uint8Array): void {
    this.#parts.push(Buffer.from(bytes));
    this.#length += bytes.length;
  }

  numbers(...values: readonly number[]): void {
    this.bytes(Buffer.from(values.flatMap((value) => [value >> 8, value & 0xff])));
  }

  name(name: string): void {
    const known = this.#names.get(name);
    if (known !== undefined) return this.numbers(pointer | known);
    if (name === "") return this.bytes(Uint8Array.of(0));
    this.#names.set(name, this.#length);
    const [label = "", ...rest] = name.split(".");
    this.bytes(Buffer.concat([Uint8Array.of(Buffer.byteLength(label)), Buffer.from(label)]));
    this.name(rest.join("."));
  }

  /** What follows, behind its length. */
  sized(write: () => void): void {
    const length = Buffer.alloc(2);
    this.#parts.push(length);
    this.#length += 2;
    const before = this.#length;
    write();
    length.writeUInt16BE(this.#length - before);
  }

  get written(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** An answer; `additional` is what whoever asked will ask next. */
export function writeAnswer(answers: readonly DeviceRecord[], additional: readonly DeviceRecord[] = []): Buffer {
  const writer = new MessageWriter();
  writer.numbers(0, authoritativeAnswer, 0, answers.length, 0, additional.length);
  for (const record of [...answers, ...additional]) writeRecord(writer, record);
  return writer.written;
}

function writeRecord(writer: MessageWriter, record: DeviceRecord): void {
  writer.name(record.name);
  const isShared = record.type === "PTR";
  writer.numbers(recordType[record.type], isShared ? internet : internet | cacheFlush, 0, record.ttlSeconds);
  writer.sized(() => writeData(writer, record));
}

function writeData(writer: MessageWriter, record: DeviceRecord): void {
  switch (record.type) {
    case "PTR":
      return writer.name(record.target);
    case "SRV":
      writer.numbers(0, 0, record.port);
      return writer.name(record.target);
    case "TXT":
      for (const text of record.texts) {
        writer.bytes(Buffer.concat([Uint8Array.of(Buffer.byteLength(text)), Buffer.from(text)]));
      }
      return;
    case "A":
      return writer.bytes(Uint8Array.from(record.address.split("."), Number));
    case "AAAA":
      return writer.numbers(...groupsOf(record.address));
  }
}

/** The eight numbers of an IPv6 address; `::` stands for as many zeros as are missing. */
function groupsOf(address: string): readonly number[] {
  const [before = [], after = []] = address
    .split("::")
    .map((side) => side.split(":").flatMap((group) => (group === "" ? [] : Number.parseInt(group, 16))));
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

/** The questions of a message; none when it is an answer, or not readable. */
export function readQuestions(message: Buffer): readonly Asked[] {
  if (message.length < 12 || (message.readUInt16BE(2) & isAnswer) !== 0) return [];
  const asked: Asked[] = [];
  let offset = 12;
  for (let left = message.readUInt16BE(4); left > 0; left--) {
    const read = readName(message, offset);
    if (read === undefined || read.end + 4 > message.length) return asked;
    asked.push({ name: read.name, type: message.readUInt16BE(read.end) });
    offset = read.end + 4;
  }
  return asked;
}

function readName(message: Buffer, start: number): { readonly name: string; readonly end: number } | undefined {
  const labels: string[] = [];
  let end: number | undefined;
  let offset = start;
  // A name has at most 127 labels and as many pointers.
  for (let steps = 0; steps < 254; steps++) {
    const length = message[offset];
    if (length === undefined) return undefined;
    if (length === 0) return { name: labels.join(".").toLowerCase(), end: end ?? offset + 1 };
    if (length >= 0xc0) {
      if (offset + 1 >= message.length) return undefined;
      end ??= offset + 2;
      offset = message.readUInt16BE(offset) & ~pointer;
    } else {
      labels.push(message.toString("utf8", offset + 1, offset + 1 + length));
      offset += 1 + length;
    }
  }
  return undefined;
}
