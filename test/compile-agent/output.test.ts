import { expect, test } from "vitest";
import { ProgressMeter, progressOf, type BuildProgress } from "#compile-agent/output.ts";

test("ninja and make steps become a phase with a percentage", () => {
  expect(progressOf("[12/51] CXX obj/src/main.cpp.o")).toEqual({ phase: "compiling", percent: 23 });
  expect(progressOf("[51/51] LINK program")).toEqual({ phase: "linking", percent: 100 });
  expect(progressOf("[ 12%] Building CXX object a.o")).toEqual({ phase: "compiling", percent: 12 });
  expect(progressOf("[830/831] Linking CXX executable firmware.elf")).toEqual({ phase: "linking", percent: 99 });
  expect(progressOf("[1/0] nonsense")).toBeUndefined();
  expect(progressOf("[900%] nonsense")).toBeUndefined();
});

test("the phrases of pip, ESPHome and PlatformIO are known", () => {
  const phaseOf = (line: string) => progressOf(line)?.phase;
  expect(phaseOf("Collecting esphome==2026.10.0")).toBe("environment");
  expect(phaseOf("  Downloading esphome-2026.10.0-py3-none-any.whl (7.4 MB)")).toBe("environment");
  expect(phaseOf("Tool Manager: Installing platformio/toolchain-xtensa")).toBe("environment");
  expect(phaseOf("INFO Downloading ESP-IDF 5.5.6 framework ...")).toBe("environment");
  expect(phaseOf("INFO Generating C++ source...")).toBe("compiling");
  expect(phaseOf("Compiling .pioenvs/garden/src/main.cpp.o")).toBe("compiling");
  expect(phaseOf("Linking .pioenvs/garden/firmware.elf")).toBe("linking");
  expect(phaseOf("src/main.cpp:1: warning: unused")).toBeUndefined();
});

test("progress is said when it changes, and a repeated part never goes backwards", () => {
  const said: BuildProgress[] = [];
  const meter = new ProgressMeter((progress) => said.push(progress));
  for (const line of [
    "INFO Compiling app...",
    "[1/2] CXX a.o",
    "hello",
    "[1/2] CXX a.o",
    "Compiling b",
    "[1/10] CXX c.o",
    "[2/2] LINK p",
  ]) {
    meter.read(line);
  }
  expect(said).toEqual([
    { phase: "compiling" },
    { phase: "compiling", percent: 50 },
    { phase: "linking", percent: 100 },
  ]);
});
