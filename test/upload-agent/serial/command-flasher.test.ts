import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FlasherName } from "#protocol/serial.ts";
import {
  type CommandFlasherSpec,
  type CommandFlashers,
  parseFlashers,
  readFlasherFile,
} from "#upload-agent/serial/flasher-file.ts";
import { flashAndListen, serialBench, serialTarget, type ToldFlash } from "#test/support/serial-bench.ts";
import { temporaryFolder, type TemporaryFolder } from "#test/support/temporary-folder.ts";

const examples = join(import.meta.dirname, "../../../examples/flashers.yaml");
const image = Buffer.from("UF2 of a kind\n");
const images = [
  { role: "factory", name: "firmware.uf2", bytes: image },
  { role: "other", name: "notes.txt", bytes: Buffer.from("beside it") },
] as const;

let folder: TemporaryFolder;

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(() => folder[Symbol.asyncDispose]());

/** A tool of that name which notes its arguments and does as the script says. */
async function fakeTool(name: string, script: string): Promise<string> {
  const path = join(folder.path, name);
  await writeFile(path, `#!/bin/sh\nprintf '%s\\n' "$@" > "${path}.arguments"\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

async function flashWith(
  name: string,
  flashers: CommandFlashers,
  options = {},
  ports = { bench: "/dev/null" },
): Promise<ToldFlash> {
  const bench = serialBench({ folder: folder.path, ports, flashers });
  const target = serialTarget("bench", { kind: "command", flasher: FlasherName.parse(name) });
  return flashAndListen(bench, target, images, options);
}

const only = (spec: Partial<CommandFlasherSpec>): CommandFlashers =>
  new Map([[FlasherName.parse("tool"), { argv: ["true"], "effect-when-cut": "partial", ...spec }]]);

describe("the examples", () => {
  test("are read, and each has a line that says what it is for", async () => {
    const flashers = await readFlasherFile(examples);
    expect([...flashers.keys()]).toEqual(["picotool", "dfu-util", "uf2-copy", "stm32flash"]);
    const text = await readFile(examples, "utf8");
    for (const name of flashers.keys()) expect(text).toMatch(new RegExp(`\n  # .+\n  ${name}:`));
  });

  test("the copy of a UF2 file puts it on the volume", async () => {
    const volume = join(folder.path, "RPI-RP2");
    await mkdir(volume);
    const text = (await readFile(examples, "utf8")).replace("/media/pi/RPI-RP2/", `${volume}/`);
    const { result } = await flashWith("uf2-copy", parseFlashers(text, examples));
    expect(result).toEqual({ ok: true, level: "committed", compression: "none", wireBytes: image.length });
    expect(await readFile(join(volume, "firmware.uf2"))).toEqual(image);
  });

  test("a volume that is not there is a failure, with what the copy said", async () => {
    const text = (await readFile(examples, "utf8")).replace("/media/pi/RPI-RP2/", `${folder.path}/absent/`);
    const { result } = await flashWith("uf2-copy", parseFlashers(text, examples));
    expect(result).toMatchObject({
      ok: false,
      failure: { kind: "flasher-failed", tool: "uf2-copy", effect: "partial" },
    });
    expect(result).toMatchObject({ failure: { tail: [expect.stringContaining("absent")] } });
  });

  test.each([
    ["picotool", "echo 'Loading into Flash: [====      ]  40%'; echo 'Verifying Flash: [==========]  100%'", 40],
    ["dfu-util", "printf 'Download\\t[=====    ]  55%%    4096 bytes\\nDownload done.\\n'", 55],
    ["stm32flash", "echo 'Wrote and verified address 0x08000100 (25.00%)'", 25],
  ])("%s is started with the image, and its progress is read", async (name, script, percent) => {
    const program = await fakeTool(name, script);
    const flashers = new Map(
      [...(await readFlasherFile(examples))].map(([key, spec]) => [
        key,
        { ...spec, argv: [program, ...spec.argv.slice(1)] },
      ]),
    );
    const { result, events } = await flashWith(name, flashers);
    expect(result.ok).toBe(true);
    const progress = events.find((event) => event.kind === "progress");
    expect(progress).toMatchObject({ sentBytes: Math.floor((image.length * percent) / 100), totalBytes: image.length });
    const said = (await readFile(`${program}.arguments`, "utf8")).split("\n");
    expect(said.filter((argument) => argument.endsWith("/firmware.uf2"))).toHaveLength(1);
    expect(said.includes("/dev/null")).toBe(name === "stm32flash");
  });
});

test("a command finds every file of the build in its folder, and the folder is gone afterwards", async () => {
  const tool = await fakeTool("tool", 'cat notes.txt "$1/firmware.uf2"; pwd');
  const { events } = await flashWith("tool", only({ argv: [tool, "{dir}"] }));
  const lines = events.flatMap((event) => (event.kind === "line" ? [event.text] : []));
  expect(lines.slice(0, 2)).toEqual(["beside itUF2 of a kind", expect.stringMatching(/\/flash-/)]);
  await expect(readFile(join(lines[1] ?? "", "notes.txt"))).rejects.toThrow("ENOENT");
});

test("what stands in braces is an argument, never a part of a shell", async () => {
  const tool = await fakeTool("tool", "true");
  await flashWith("tool", only({ argv: [tool, "a {image} b", "$HOME", ";"] }));
  const [first, ...rest] = (await readFile(`${tool}.arguments`, "utf8")).trimEnd().split("\n");
  expect(first).toMatch(/^a \/.*\/firmware\.uf2 b$/);
  expect(rest).toEqual(["$HOME", ";"]);
});

test("a command that fails may have left what its owner says", async () => {
  const tool = await fakeTool("tool", "echo no device; exit 3");
  const { result } = await flashWith("tool", only({ argv: [tool], "effect-when-cut": "none" }));
  expect(result).toEqual({
    ok: false,
    failure: {
      kind: "flasher-failed",
      tool: "tool",
      port: "bench",
      phase: "sending",
      exitCode: 3,
      effect: "none",
      tail: ["no device"],
    },
  });
});

test("a command that says nothing for its limit is ended", async () => {
  const tool = await fakeTool("tool", "sleep 60");
  const { result } = await flashWith("tool", only({ argv: [tool], "silence-seconds": 0.2 }));
  expect(result).toMatchObject({ ok: false, failure: { kind: "deadline", limit: "silence", effect: "partial" } });
});

test("a command that is called off is ended with its children", async () => {
  const tool = await fakeTool("tool", "sleep 60 & echo begun; wait");
  const cancel = new AbortController();
  const { result } = await flashWith("tool", only({ argv: [tool] }), {
    signal: cancel.signal,
    onEvent: (event: { readonly kind: string }) => (event.kind === "line" ? cancel.abort() : undefined),
  });
  expect(result).toMatchObject({ ok: false, failure: { kind: "flasher-failed", effect: "partial", tail: ["begun"] } });
});

test("a command that is not installed is named, and nothing was done", async () => {
  const { result } = await flashWith("tool", only({ argv: ["no-such-flasher"] }));
  expect(result).toMatchObject({ ok: false, failure: { kind: "toolchain-missing", missing: "tool" } });
});

test("a flasher that the owner did not allow is refused with those that he did", async () => {
  const { result } = await flashWith("other", only({}));
  expect(result).toEqual({
    ok: false,
    failure: {
      kind: "toolchain-missing",
      missing: "the flasher other",
      detail: "this agent allows: tool (FLASHYARD_FLASHERS)",
    },
  });
});

test("a command that uses the port needs it, another one does not", async () => {
  const withPort = await flashWith("tool", only({ argv: ["true", "{port}"] }), {}, { bench: "/dev/absent" });
  expect(withPort.result).toMatchObject({ ok: false, failure: { kind: "port-missing", port: "bench" } });
  const without = await flashWith("tool", only({ argv: ["true"] }), {}, { bench: "/dev/absent" });
  expect(without.result.ok).toBe(true);
});

describe("a bad file is refused with its name, the key and the reason:", () => {
  test.each([
    ["flashers: [", "f.yaml, line 1: "],
    ["flasher: {}", "f.yaml: flashers: "],
    ["flashers: { a: { argv: [] } }", "f.yaml: flashers.a.argv: "],
    [
      "flashers: { a: { argv: [x, '{file}'] } }",
      "f.yaml: flashers.a.argv.1: {file} is not known; there are {port}, {image} and {dir}",
    ],
    ["flashers: { a: { argv: [x], progress: '(' } }", "f.yaml: flashers.a.progress: not a regular expression"],
    [
      "flashers: { a: { argv: [x], progress: 'x' } }",
      "f.yaml: flashers.a.progress: it needs one group, which is the percentage",
    ],
    ["flashers: { a: { argv: [x], timeout: 3 } }", 'f.yaml: flashers.a: Unrecognized key: "timeout"'],
    ["flashers: { a: { argv: [x], total-seconds: -1 } }", "f.yaml: flashers.a.total-seconds: "],
    ["flashers: { a: { argv: [x], effect-when-cut: some } }", "f.yaml: flashers.a.effect-when-cut: "],
    ["flashers: { A B: { argv: [x] } }", "f.yaml: flashers.A B: "],
  ])("%s", (text, message) => {
    expect(() => parseFlashers(text, "f.yaml")).toThrow(expect.objectContaining({ code: "bad-flashers" }));
    expect(() => parseFlashers(text, "f.yaml")).toThrow(message);
  });

  test("a file that is not there", async () => {
    await expect(readFlasherFile(join(folder.path, "absent.yaml"))).rejects.toThrow(
      /absent\.yaml \(FLASHYARD_FLASHERS\) cannot be read/,
    );
  });
});
