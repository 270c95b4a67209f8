import { expect, test } from "vitest";
import { LineSplitter } from "#actor/line-splitter.ts";

function linesOf(chunks: readonly (string | Buffer)[], bytesMax = 100): readonly string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter(bytesMax, (line) => lines.push(line));
  for (const chunk of chunks) splitter.push(Buffer.from(chunk));
  splitter.end();
  return lines;
}

test("line feed, carriage return and both together end a line; empty lines stay", () => {
  expect(linesOf(["a\nb\r\nc\rd\n\ne"])).toEqual(["a", "b", "c", "d", "", "e"]);
});

test("where the chunks are cut does not change the lines", () => {
  const whole = "one\r\ntwo\r\n\r\nthree\rfour\n";
  const bytes = whole.split("");
  expect(linesOf(bytes)).toEqual(linesOf([whole]));
  expect(linesOf(bytes)).toEqual(["one", "two", "", "three", "four"]);
});

test("a progress bar's redraw is given out before the next one comes", () => {
  const lines: string[] = [];
  const splitter = new LineSplitter(100, (line) => lines.push(line));
  splitter.push(Buffer.from("10 %\r"));
  expect(lines).toEqual(["10 %"]);
});

test("a character that is torn by two chunks is whole again", () => {
  const bytes = Buffer.from("Küche\n");
  expect(linesOf([bytes.subarray(0, 2), bytes.subarray(2)])).toEqual(["Küche"]);
});

test("a line without an end is cut into pieces, one that is too long is marked", () => {
  expect(linesOf(["a".repeat(25)], 10)).toEqual(["a".repeat(10), "a".repeat(10), "a".repeat(5)]);
  expect(linesOf([`${"b".repeat(25)}\n`], 10)).toEqual([`${"b".repeat(10)} …`]);
});

test("nothing at the end is no line", () => {
  expect(linesOf([])).toEqual([]);
  expect(linesOf(["a\n"])).toEqual(["a"]);
});
