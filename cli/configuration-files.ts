/** Which configuration files a command is about. */
import { readdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { messageOf, UsageError } from "#protocol/errors.ts";
import { Configuration, everyConfiguration } from "#protocol/ids.ts";
import { chainsPerRequestMax } from "#protocol/limits.ts";
import { folderSettingsName } from "#cli/device-settings.ts";

export interface ConfigurationFile {
  /** As the user named it. */
  readonly file: string;
  readonly configuration: Configuration;
}

export interface FileChoice {
  readonly files: readonly string[];
  readonly isAll: boolean;
  readonly folder?: string | undefined;
}

/** @throws UsageError for a choice that makes no sense, an unusable name, and two files that mean one configuration. */
export async function chooseFiles({ files, isAll, folder }: FileChoice): Promise<readonly ConfigurationFile[]> {
  if (isAll && files.length > 0) throw new UsageError("all-and-files", "name the files or say --all, not both");
  if (!isAll && folder !== undefined) throw new UsageError("folder-without-all", "--folder goes with --all");
  if (!isAll && files.length === 0) {
    throw new UsageError("no-files", "name at least one configuration file, or say --all for all of a folder");
  }
  const chosen = isAll ? await configurationsIn(folder ?? ".") : files;
  if (chosen.length > chainsPerRequestMax) {
    const message = `${chosen.length} files are too many: at most ${chainsPerRequestMax} go out at once`;
    throw new UsageError("too-many-files", message);
  }
  return distinct(chosen.map((file) => ({ file, configuration: configurationOf(file) })));
}

/** Every *.yaml and *.yml of a folder except secrets, the folder's settings and files that start with a dot, sorted. */
async function configurationsIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    throw new UsageError("no-folder", `the folder ${folder} cannot be read: ${messageOf(cause)}`, { cause });
  });
  const names = entries
    .filter((entry) => !entry.isDirectory() && /^[^.].*\.ya?ml$/i.test(entry.name))
    .map((entry) => entry.name)
    .filter((name) => !/^secrets\.ya?ml$/i.test(name) && name !== folderSettingsName);
  if (names.length === 0) throw new UsageError("nothing-to-do", `there is no *.yaml in ${resolve(folder)}`);
  return names.toSorted().map((name) => join(folder, name));
}

/** The configuration's name in the farm: the file's name without its ending. @throws UsageError `bad-name` */
export function configurationOf(file: string): Configuration {
  const name = basename(file).replace(/\.ya?ml$/i, "");
  const parsed = Configuration.safeParse(name);
  if (parsed.success) return parsed.data;
  const rule = parsed.error.issues[0]?.message ?? "it cannot be used";
  throw new UsageError("bad-name", `${JSON.stringify(name)} cannot be the name of a configuration: ${rule}`);
}

/** A configuration as the user names it where no file is read: `lamp` or `lamp.yaml`. @throws UsageError `bad-name` */
export function configurationNamed(text: string): Configuration {
  const configuration = configurationOf(text);
  if (configuration !== everyConfiguration) return configuration;
  throw new UsageError("bad-name", "* is no configuration: `flashyard reset` is for all of them");
}

/** The farm knows a device by its configuration's name, so that of two requests with one name only the later would count. */
function distinct(files: readonly ConfigurationFile[]): readonly ConfigurationFile[] {
  const seen = new Map<string, string>();
  for (const { file, configuration } of files) {
    const other = seen.get(configuration);
    seen.set(configuration, file);
    if (other === undefined) continue;
    const isSame = resolve(other) === resolve(file);
    throw new UsageError(
      "same-configuration",
      isSame
        ? `${file} is named twice`
        : `${other} and ${file} would both be the configuration ${configuration}: rename one, or send them one after the other`,
    );
  }
  return files;
}
