/** Reads docs/limits.md, so that tests can compare it with the code. */
import { readFileSync } from "node:fs";

const root = new URL("../../", import.meta.url);

/** A row of a table: its cells as they are written, without the outer bars. */
type Row = readonly string[];

/** Rows of the table under a heading, without its head. */
export function rowsUnder(heading: string): readonly Row[] {
  const page = readFileSync(new URL("docs/limits.md", root), "utf8");
  const section = page.split(`## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  return [...section.matchAll(/^\| (`.*) \|$/gm)].map(([, row]) => (row ?? "").split(" | "));
}

/** `12,500` is a number, `–` is none. */
export function numberIn(cell: string | undefined): number | undefined {
  return cell === undefined || cell === "–" ? undefined : Number(cell.replaceAll(",", ""));
}

/** What stands in backticks. */
export function codeIn(cell: string | undefined): readonly string[] {
  return [...(cell ?? "").matchAll(/`([^`]+)`/g)].map(([, code]) => code ?? "");
}

/** Numbers that a file gives to a name, as in `const againMs = 200;`, `timeout: 3_000` or `= 2 ** 31 - 1`. */
export function numbersOf(source: string, name: string): readonly number[] {
  const given = new RegExp(`\\b${name}(?::| =|: \\w+ =) ([\\d_ *+-]+)[;,)\\s]`, "g");
  return [...source.matchAll(given)].map(([, expression]) => valueOf(expression ?? ""));
}

function valueOf(expression: string): number {
  const text = expression.replaceAll(/[_\s]/g, "");
  const [terms = "", less] = text.split("-");
  const product = terms
    .replaceAll("**", "^")
    .split("*")
    .map((factor) => factor.split("^").map(Number))
    .reduce((sum, [base = 1, power = 1]) => sum * base ** power, 1);
  return product - Number(less ?? 0);
}
