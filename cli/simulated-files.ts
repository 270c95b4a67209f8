/** The files of `flashyard device simulate`: a configuration for each device, and a hidden folder of what goes when they end. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { originOf } from "#simulator/simulated-configuration.ts";

export class SimulatedFiles implements AsyncDisposable {
  readonly folder: string;
  /** Absolute; exists until the end. */
  readonly hidden: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.hidden = resolve(folder, ".devices");
  }

  /** @throws UsageError `bad-folder` */
  static async open(folder: string): Promise<SimulatedFiles> {
    const files = new SimulatedFiles(folder);
    try {
      await rm(files.hidden, { recursive: true, force: true });
      await mkdir(files.hidden, { recursive: true });
      return files;
    } catch (cause) {
      throw new UsageError("bad-folder", `${folder} cannot be written: ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * Writes a configuration. What somebody has changed in one of the same device stays as it is.
   * @throws UsageError `not-ours` for a file of somebody else
   */
  async write(name: string, text: string): Promise<string> {
    const file = join(this.folder, `${name}.yaml`);
    const found = await readFile(file, "utf8").catch(() => undefined);
    switch (found === undefined ? "older" : originOf(found, text)) {
      case "ours":
        return file;
      case "older":
        await writeFile(file, text);
        return file;
      case "stranger":
        throw new UsageError(
          "not-ours",
          `${file} is no file of a simulated device: choose another --name or another --folder`,
        );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.hidden, { recursive: true, force: true, maxRetries: 3 });
  }
}
