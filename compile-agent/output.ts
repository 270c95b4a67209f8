/** Build output read for people: which phase a line shows, and how far the build is. Pure; the tail is `ToolOutput`'s. */
import type { Progress } from "#protocol/messages.ts";

export type BuildProgress = Pick<Progress, "phase" | "percent">;

/** `[12/51] CXX …` of ninja (ESPHome's host, ESP8266 and ESP-IDF builds). */
const ninjaStep = /^\[(\d+)\/(\d+)\]\s+(.*)$/;
/** `[ 12%] Building …` of make, as CMake writes it. */
const makeStep = /^\[\s*(\d{1,3})%\]\s+(.*)$/;
const linking =
  /^(LINK|Linking|Creating|Building .*\.(bin|elf|uf2|hex)\b|Generating .*\.(bin|elf)\b|Generated |Merging|Wrote |esptool)/;

/** In the order of a build; a line shows the first that fits. */
const phrases: readonly (readonly [RegExp, string])[] = [
  [
    /^(Collecting|Downloading|Installing|Unpacking|Building wheel|Successfully installed) |^Tool Manager|^(Platform|Library) Manager|^making the environment/,
    "environment",
  ],
  [/^INFO (Downloading|Installing|Extracting|Cloning|Updating|Checking ESP-IDF)/, "environment"],
  [/^INFO (Reading configuration|Generating C\+\+|Compiling app|Core config or version changed)/, "compiling"],
  [/^(Compiling|Archiving|Indexing|Building in )/, "compiling"],
  [linking, "linking"],
];

/** What a clean line of output says of the build's progress; undefined for a line that says nothing of it. */
export function progressOf(line: string): BuildProgress | undefined {
  const ninja = ninjaStep.exec(line);
  if (ninja !== null) return step(ninja[3] ?? "", (Number(ninja[1]) / Number(ninja[2])) * 100);
  const make = makeStep.exec(line);
  if (make !== null) return step(make[2] ?? "", Number(make[1]));
  const phase = phrases.find(([phrase]) => phrase.test(line.trimStart()))?.[1];
  return phase === undefined ? undefined : { phase };
}

function step(what: string, percent: number): BuildProgress | undefined {
  if (!Number.isFinite(percent) || percent > 100) return undefined;
  return { phase: linking.test(what) ? "linking" : "compiling", percent: Math.floor(percent) };
}

/** Passes on progress only when it differs from what was said last; a repeated build of a part never goes backwards. */
export class ProgressMeter {
  readonly #onProgress: ((progress: BuildProgress) => void) | undefined;
  #last: BuildProgress | undefined;

  constructor(onProgress: ((progress: BuildProgress) => void) | undefined) {
    this.#onProgress = onProgress;
  }

  read(line: string): void {
    const progress = progressOf(line);
    if (progress !== undefined) this.say(progress);
  }

  say(progress: BuildProgress): void {
    const isBehind =
      progress.phase === this.#last?.phase &&
      (progress.percent === undefined || progress.percent <= (this.#last.percent ?? -1));
    if (isBehind) return;
    this.#last = progress;
    this.#onProgress?.(progress);
  }
}
