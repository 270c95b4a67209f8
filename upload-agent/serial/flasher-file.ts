/**
 * The commands that the owner of an upload agent allows (`FLASHYARD_FLASHERS`, a YAML file). A job names one of them; it brings no
 * command, no argument and no path of its own.
 */
import { readFile } from "node:fs/promises";
import { parse, YAMLParseError } from "yaml";
import { z } from "zod";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { FlasherName } from "#protocol/serial.ts";

/** What stands in braces in an argument, and what a job fills in. */
const places = ["port", "image", "dir"] as const;
const flashersMax = 64;
const secondsMax = 24 * 3_600;

const Argument = z
  .string()
  .min(1)
  .max(4_096)
  .refine((text) => unknownPlace(text) === undefined, {
    error: ({ input }) => `{${unknownPlace(String(input))}} is not known; there are {port}, {image} and {dir}`,
  });

const Pattern = z
  .string()
  .max(400)
  .refine((text) => patternOf(text) !== undefined, "not a regular expression")
  .refine(
    // Anything matches an empty text when nothing is one more choice, and tells how many groups there are.
    (text) => patternOf(text) === undefined || patternOf(`${text}|`)?.exec("")?.length === 2,
    "it needs one group, which is the percentage",
  );

const Seconds = z.number().positive().max(secondsMax);

export const CommandFlasherSpec = z.strictObject({
  /** Run without a shell. */
  argv: z.array(Argument).min(1).max(64),
  /** Of its output: the first group is a percentage. */
  progress: Pattern.optional(),
  /** Without a line of output; absent: as long as any flash may. */
  "silence-seconds": Seconds.optional(),
  "total-seconds": Seconds.optional(),
  /** What a device holds when the command is ended or fails: `partial`, unless its bootloader throws away what is not whole. */
  "effect-when-cut": z.enum(["none", "partial", "uncertain"]).default("partial"),
});
export type CommandFlasherSpec = z.infer<typeof CommandFlasherSpec>;

const FlasherFile = z.strictObject({
  flashers: z
    .record(FlasherName, CommandFlasherSpec)
    .refine((flashers) => Object.keys(flashers).length <= flashersMax, `at most ${flashersMax} flashers`),
});

export type CommandFlashers = ReadonlyMap<FlasherName, CommandFlasherSpec>;

/** @throws UsageError `bad-flashers`: file, key, reason. */
export async function readFlasherFile(path: string): Promise<CommandFlashers> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new UsageError("bad-flashers", `${path} (FLASHYARD_FLASHERS) cannot be read: ${messageOf(error)}`);
  }
  return parseFlashers(text, path);
}

/** @throws UsageError as `readFlasherFile` */
export function parseFlashers(text: string, path: string): CommandFlashers {
  let data: unknown;
  try {
    data = parse(text);
  } catch (error) {
    const where = error instanceof YAMLParseError ? `, line ${error.linePos?.[0].line ?? 1}` : "";
    throw new UsageError("bad-flashers", `${path}${where}: ${messageOf(error).split("\n")[0] ?? "not YAML"}`);
  }
  const read = FlasherFile.safeParse(data ?? {});
  if (!read.success) {
    const [issue] = read.error.issues;
    const key = issue?.path.join(".") || "the file";
    throw new UsageError("bad-flashers", `${path}: ${key}: ${issue?.message ?? "not readable"}`);
  }
  return new Map(Object.entries(read.data.flashers).map(([name, spec]) => [FlasherName.parse(name), spec]));
}

/** @returns the name in braces that nobody fills in */
function unknownPlace(text: string): string | undefined {
  const names = [...text.matchAll(/\{([A-Za-z_-]+)\}/g)].map(([, name]) => name ?? "");
  return names.find((name) => !(places as readonly string[]).includes(name));
}

function patternOf(text: string): RegExp | undefined {
  try {
    return new RegExp(text);
  } catch {
    return undefined;
  }
}
