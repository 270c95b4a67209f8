import { expect, test } from "vitest";
import { cleanLine, esphomeFailure, ToolOutput } from "#toolchain/tool-output.ts";

function outputOf(text: string): ToolOutput {
  const output = new ToolOutput();
  for (const line of text.split("\n")) output.push(line);
  return output;
}

test("colours, control characters and direction marks never reach a reader", () => {
  expect(cleanLine("\u001b[31mERROR\u001b[0m a\u0007b\u0000c \u202edlrow\ttab")).toBe("ERROR abc dlrow\ttab");
});

test("the tail of a C++ error is the error with its place, its source and nothing of the build around it", () => {
  const output = outputOf(`INFO Compiling app...
[1/3] CXX obj/src/other.cpp.o
[2/3] CXX obj/src/main.cpp.o
FAILED: obj/src/main.cpp.o
'/usr/bin/g++' -MMD -c src/main.cpp
In file included from src/main.cpp:38:
src/hello.h: In function 'float hello()':
src/hello.h:1:31: error: 'fortytwo' was not declared in this scope
    1 | inline float hello() { return fortytwo; }
      |                               ^~~~~~~~
ninja: build stopped: subcommand failed.
ERROR Host build failed`);
  expect(output.tail()).toEqual([
    "In file included from src/main.cpp:38:",
    "src/hello.h: In function 'float hello()':",
    "src/hello.h:1:31: error: 'fortytwo' was not declared in this scope",
    "    1 | inline float hello() { return fortytwo; }",
    "      |                               ^~~~~~~~",
    "ERROR Host build failed",
  ]);
});

test("a linker's error is found too, and without any error the last lines are the tail", () => {
  const linker = outputOf(
    "[3/3] LINK program\n/usr/bin/ld: main.o: undefined reference to `foo()'\ncollect2: error: ld returned 1 exit status",
  );
  expect(linker.tail()).toHaveLength(2);
  const quiet = outputOf(Array.from({ length: 60 }, (_, i) => `line ${i}`).join("\n"));
  expect(quiet.tail()).toHaveLength(40);
  expect(quiet.tail().at(-1)).toBe("line 59");
});

test("a tail never has more than 40 lines of 400 characters, and the first errors win", () => {
  const output = outputOf(Array.from({ length: 100 }, (_, i) => `a.cpp:${i}: error: ${"x".repeat(500)}`).join("\n"));
  expect(output.tail()).toHaveLength(40);
  expect(output.tail()[0]).toMatch(/^a\.cpp:0: error/);
  expect(Math.max(...output.tail().map((line) => line.length))).toBe(400);
});

test("secrets in a refused configuration are hidden, on their own line and below their name", () => {
  const output = outputOf(`Failed config
wifi: [source a.yaml:3]
  ssid: house
  ap_password: "geheim"
  password: !secret wifi
  encryption_key:
    - Zm9v
    - bar
  domain: .local`);
  expect(output.tail()).toEqual([
    "Failed config",
    "wifi: [source a.yaml:3]",
    "  ssid: (hidden)",
    "  ap_password: (hidden)",
    "  password: !secret wifi",
    "  encryption_key:",
    "    (hidden)",
    "    (hidden)",
    "  domain: .local",
  ]);
});

test("what another machine may have is toolchain-missing, whatever the exit code", () => {
  const verdict = (exitCode: number, text: string) => esphomeFailure(exitCode, outputOf(text), "/build");
  expect(verdict(1, "ERROR Failed to download https://x/esp-idf.tar.xz after 5 attempts: HTTPSConnectionPool")).toEqual(
    {
      kind: "toolchain-missing",
      missing: "a download that the build needs",
      detail: "Failed to download https://x/esp-idf.tar.xz after 5 attempts: HTTPSConnectionPool",
    },
  );
  expect(verdict(1, "ERROR gcc not found on PATH (tried gcc, clang, cc); install it or set CC")).toMatchObject({
    missing: "a compiler",
  });
  expect(
    verdict(2, "Failed config\n  - \n    unable to access 'https://x/': Could not resolve host: x."),
  ).toMatchObject({
    kind: "toolchain-missing",
  });
  expect(verdict(2, "git is not installed. See https://git-scm.com")).toMatchObject({ missing: "git" });
  expect(verdict(1, "cc1plus: fatal error: error writing to a.o: No space left on device")).toEqual({
    kind: "disk-full",
    path: "/build",
  });
  expect(verdict(1, "a.cpp:1:1: error: no")).toEqual({
    kind: "compiler-exit",
    exitCode: 1,
    tail: ["a.cpp:1:1: error: no"],
  });
  expect(verdict(2, "Failed config")).toEqual({ kind: "config-invalid", exitCode: 2, tail: ["Failed config"] });
  const recovered =
    "WARNING Git command failed: unable to access 'https://x/'. Retrying in 2 seconds\nFailed config\n[x] is an invalid option";
  expect(verdict(2, recovered)).toMatchObject({ kind: "config-invalid" });
  expect(verdict(1, "ERROR Failed to download https://x\na.cpp:1:1: error: no")).toMatchObject({
    kind: "compiler-exit",
  });
});
