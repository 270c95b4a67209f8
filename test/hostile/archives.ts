/** Bundles that somebody made to do harm: what each is, and what the build says of it. */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { bundleBytesMax, bundleFilesMax, bundleUnpackedBytesMax } from "#protocol/limits.ts";
import { entry, pax, tar, tgz } from "#test/hostile/raw-tar.ts";

export interface HostileArchive {
  readonly name: string;
  readonly bytes: () => Buffer;
  /** What the failed build says. */
  readonly says: RegExp;
}

const file = (name: string | Buffer, content: string | Buffer = "harm") => entry({ name, content });
const refused = (name: string, says: RegExp, ...blocks: readonly Buffer[]): HostileArchive => ({
  name,
  says,
  bytes: () => tgz(...blocks),
});
const bytes = (name: string, says: RegExp, make: () => Buffer): HostileArchive => ({ name, says, bytes: make });

/** GNU's way to write a long name (`L`) or link (`K`). */
const long = (type: "L" | "K", text: string) => entry({ name: "././@LongLink", type, content: `${text}\u0000` });

/** A size in binary, as GNU writes those beyond 8 GiB. */
function binarySize(first: number, last: number): Buffer {
  const field = Buffer.alloc(12, first === 0xff ? 0xff : 0);
  field[0] = first;
  field[5] = last;
  return field;
}

const twice = /is in it twice/;
const onlyFiles = /only files and folders are allowed/;
const leadsOut = /leads out of the bundle/;
const unsound = /it is no sound tar archive|it cannot be unpacked/;

const paths: readonly HostileArchive[] = [
  refused("an absolute path", /"\/etc\/harm" is an absolute path/, file("/etc/harm")),
  refused("an absolute path behind a dot", /is an absolute path|leads out/, file("//etc/harm")),
  refused("a path that leads out", leadsOut, file("../harm")),
  refused("a path that leads out from within", leadsOut, file("a/b/../../../harm")),
  refused("a folder that leads out", leadsOut, entry({ name: "../harm/", type: "5" })),
  refused("a prefix that leads out", leadsOut, entry({ name: "harm", prefix: "../.." })),
  refused("a prefix that is absolute", /is an absolute path/, entry({ name: "harm", prefix: "/tmp" })),
  refused("backslashes that lead out", /control character or backslash/, file("..\\..\\harm")),
  refused("a drive of Windows", /is an absolute path/, file("C:harm")),
  refused("no name at all", /no sound tar|has no name/, file("")),
  refused("the bundle's own folder as a file", /has no name/, file("./.")),
  refused("a line end in a name", /control character/, file("a\nharm")),
  refused("an escape code in a name", /control character/, file("a\u001b[2Jharm")),
  refused("a C1 control in a name", /control character/, file("a\u009b2Jharm")),
  refused("a name that reads backwards", /turns the direction of text/, file("a\u202egnp.exe")),
  refused("a line separator in a name", /turns the direction of text/, file("a\u2028harm")),
  refused("a name that is not UTF-8", /not UTF-8/, file(Buffer.from([0x61, 0xff, 0xfe]))),
  refused("a part of a name that is too long", /has too long a name/, pax({ path: "x".repeat(300) }), file("x")),
  refused("a path of 3,000 folders", /has too long a name/, pax({ path: `${"x/".repeat(3_000)}x` }), file("x")),
  refused("our own corner", /\.flashyard is a reserved name/, file(".flashyard/files.json", "[]")),
  refused("our own corner in capitals", /\.flashyard is a reserved name/, file(".FlashYard/files.json", "[]")),
];

const kinds: readonly HostileArchive[] = [
  refused(
    "a symbolic link, and a file through it",
    /"link" is a SymbolicLink, only files and folders/,
    entry({ name: "link", type: "2", link: "/tmp" }),
    file("link/harm"),
  ),
  refused("a symbolic link within the bundle", onlyFiles, file("a"), entry({ name: "link", type: "2", link: "a" })),
  refused("a hard link to a file outside", onlyFiles, entry({ name: "link", type: "1", link: "/etc/passwd" })),
  refused("a hard link to another entry", onlyFiles, file("a"), entry({ name: "link", type: "1", link: "a" })),
  refused("a character device", /is a CharacterDevice/, entry({ name: "null", type: "3" })),
  refused("a block device", /is a BlockDevice/, entry({ name: "disk", type: "4" })),
  refused("a pipe", /is a FIFO/, entry({ name: "pipe", type: "6" })),
  refused("a contiguous file", onlyFiles, entry({ name: "a", type: "7", content: "harm" })),
  refused("a sparse file", onlyFiles, entry({ name: "a", type: "S", content: "harm" })),
  refused("a part of another volume", onlyFiles, entry({ name: "a", type: "M", content: "harm" })),
  refused("a kind that nobody knows", onlyFiles, entry({ name: "a", type: "Z", content: "harm" })),
  refused("a file that says it is a link", /linkpath forbidden/, entry({ name: "a", link: "/etc/passwd" })),
  refused("a link that an extended header makes", onlyFiles, pax({ linkpath: "/etc/passwd" }), file("a")),
  refused("a link that a header for all makes", onlyFiles, pax({ linkpath: "/etc/passwd" }, "g"), file("a")),
  refused(
    "a long link of GNU",
    /linkpath required|only files/,
    long("K", "/etc/passwd"),
    entry({ name: "a", type: "2" }),
  ),
];

const names: readonly HostileArchive[] = [
  refused("an extended header that renames", leadsOut, pax({ path: "../../harm" }), file("fine")),
  refused("a long name of GNU that leads out", leadsOut, long("L", "../../harm"), file("fine")),
  refused(
    "a long name of GNU with 2 MiB",
    /only files and folders|no sound/,
    long("L", "x".repeat(2 ** 21)),
    file("a"),
  ),
  refused("twins", /"a" is in it twice/, file("a"), file("a")),
  refused("twins by a detour", twice, file("a/b"), file("./a//b")),
  refused("twins by an extended header", twice, file("a"), pax({ path: "a" }), file("b")),
  refused("twins by case", /"readme" is in it twice/, file("README"), file("readme")),
  refused("twins by the case of a folder", twice, file("Lib/a"), file("lib/A")),
  refused("twins by how Unicode composes", twice, file("\u00e4"), file("a\u0308")),
  refused("twins by a sharp s", twice, file("stra\u00dfe"), file("STRASSE")),
  refused("a file that becomes a folder", /as a file and as a folder/, file("a"), file("a/b")),
  refused("a file that becomes a folder by case", /as a file and as a folder/, file("a"), file("A/b")),
  refused("a folder that becomes a file", twice, file("a/b"), file("a")),
];

const sizes: readonly HostileArchive[] = [
  refused("a size of 8 GiB", /more than \d+ bytes unpacked/, entry({ name: "a", size: 0o77777777777 })),
  refused(
    "a size of 2^56 bytes",
    /no sound|no valid size|more than|cannot be/,
    entry({ name: "a", size: binarySize(0x80, 1) }),
  ),
  refused(
    "a negative size",
    /no sound|no valid size|cannot be unpacked/,
    entry({ name: "a", size: binarySize(0xff, 0xff) }),
  ),
  refused("a size in an extended header", /more than \d+ bytes unpacked/, pax({ size: "1000000000000" }), file("a")),
  refused(
    "a size that is no number",
    /has no valid size|no sound/,
    pax({ size: "many" }),
    entry({ name: "a", size: Buffer.from("zzzzzzzzzzz") }),
  ),
  bytes("a bomb that its header tells of", /more than \d+ bytes unpacked/, () =>
    gzipSync(Buffer.concat([entry({ name: "bomb", size: 2 ** 32 }), Buffer.alloc(2 ** 22)]), { level: 1 }),
  ),
  bytes("a bomb behind the end of the archive", /something stands behind its end/, () => {
    const zeros = gzipSync(Buffer.alloc(2 ** 24), { level: 1 });
    const members = Math.ceil((bundleUnpackedBytesMax + bundleFilesMax * 2_048) / 2 ** 24) + 1;
    return Buffer.concat([tgz(file("a")), ...Array.from({ length: members }, () => zeros)]);
  }),
  bytes("too many files", new RegExp(`more than ${bundleFilesMax} files`), () =>
    tgz(...Array.from({ length: bundleFilesMax + 1 }, (_, index) => file(`f${index}`, ""))),
  ),
  bytes("too many folders, each file in 400 of its own", new RegExp(`more than ${bundleFilesMax} files`), () => {
    const deep = (index: number) => `${index}/${"x/".repeat(400)}f`;
    return tgz(...Array.from({ length: 20 }, (_, index) => Buffer.concat([pax({ path: deep(index) }), file("f", "")])));
  }),
  bytes("more bytes than a bundle may have", new RegExp(`at most ${bundleBytesMax} are allowed`), () =>
    Buffer.concat([tgz(file("a")), Buffer.alloc(bundleBytesMax)]),
  ),
];

const ruins: readonly HostileArchive[] = [
  bytes("nothing", /cannot be unpacked|no sound|holds no file/, () => Buffer.alloc(0)),
  bytes("an archive without a file", /no sound tar|holds no file/, () => tgz()),
  bytes("nothing, compressed", /holds no file|no sound/, () => gzipSync(Buffer.alloc(0))),
  bytes("text", /cannot be unpacked/, () => Buffer.from("#!/bin/sh\nharm\n")),
  bytes("a tar without compression", /cannot be unpacked/, () => tar(file("a"))),
  bytes("a tar compressed by zstd", /cannot be unpacked/, () => zstdCompressSync(tar(file("a")))),
  bytes("a compressed text", unsound, () => gzipSync(Buffer.alloc(5_000, "harm"))),
  bytes("two layers of gzip", /compressed twice/, () => gzipSync(tgz(file("a")))),
  bytes("zstd within gzip", /compressed twice/, () => gzipSync(zstdCompressSync(tar(file("a"))))),
  bytes("a stream that is cut off", /cannot be unpacked/, () => tgz(file("a", "x".repeat(50_000))).subarray(0, 90)),
  bytes("a tar that is cut off within a file", unsound, () =>
    gzipSync(tar(file("a", "x".repeat(5_000))).subarray(0, 3_000)),
  ),
  bytes("a tar that is cut off within a header", unsound, () => gzipSync(tar(file("a")).subarray(0, 300))),
  bytes("a header with a wrong checksum", unsound, () => tgz(file("a"), entry({ name: "b", checksum: 1 }))),
  bytes("a damaged stream", /cannot be unpacked/, () => {
    const sound = tgz(file("a", "x".repeat(5_000)));
    sound.writeUInt32LE(0, sound.length - 8);
    return sound;
  }),
  bytes("something behind the end of the archive", /behind its end|no sound/, () =>
    gzipSync(Buffer.concat([tar(file("a")), Buffer.alloc(1_024, "harm")])),
  ),
  bytes("a second archive behind the end of the first", /behind its end/, () =>
    gzipSync(Buffer.concat([tar(file("a")), tar(file("../harm"))])),
  ),
  bytes("a second member of gzip with another archive", /behind its end/, () =>
    Buffer.concat([tgz(file("a")), tgz(file("../harm"))]),
  ),
  bytes("something behind the compressed stream", /cannot be unpacked|behind its end/, () =>
    Buffer.concat([tgz(file("a")), Buffer.from("harm")]),
  ),
];

export const hostileArchives: readonly HostileArchive[] = [...paths, ...kinds, ...names, ...sizes, ...ruins];
