/**
 * The images of deploy/Containerfile, built on a Debian of our own making: no registry of images is needed, only Debian's packages and npm's.
 * The base is kept in the engine for as long as what it is made of is the same.
 */
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GenericContainer, getContainerRuntimeClient } from "testcontainers";
import { plainEnvironment, runProcess } from "#actor/subprocess.ts";
import { serverBinary } from "#test/support/nats-server.ts";
import { temporaryFolder } from "#test/support/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
const targets = ["nats", "coordinator", "compile-agent", "upload-agent"] as const;
export type FarmImage = (typeof targets)[number];

/** What the images need beyond a plain Debian; what is there they do not fetch. */
const packages = ["ca-certificates", "g++", "git", "libssl-dev", "python3", "python3-venv", "tini"];

export const imageOf = (target: FarmImage) => `flashyard-test-${target}:latest`;

/** @throws Error when one cannot be built */
export async function farmImages(): Promise<void> {
  const base = await baseImage();
  for (const target of targets) {
    await GenericContainer.fromDockerfile(root, "deploy/Containerfile")
      .withBuildArgs({ BASE: base })
      .withTarget(target)
      .build(imageOf(target), { deleteOnExit: false });
  }
}

/** A Debian with the packages of apt and npm, and a nats-server. @returns its name */
async function baseImage(): Promise<string> {
  const debian = await debianImage();
  const lock = await Promise.all(["package.json", "package-lock.json"].map((file) => readFile(join(root, file))));
  const key = digestOf([debian, ...lock]);
  const name = `flashyard-test-base:${key}`;
  if (await isThere(name)) return name;
  await using context = await temporaryFolder();
  for (const file of ["package.json", "package-lock.json"]) {
    await copyFile(join(root, file), join(context.path, file));
  }
  await run(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline"], context.path);
  await copyFile(await serverBinary(), join(context.path, "nats-server"));
  const lines = [
    `FROM ${debian}`,
    // The tests' ESPHome is mounted at its own place, which may lie below.
    "RUN chmod 711 /root",
    "COPY nats-server /usr/local/bin/nats-server",
    "COPY node_modules /opt/flashyard/node_modules",
  ];
  await writeFile(join(context.path, "Dockerfile"), lines.join("\n"));
  await GenericContainer.fromDockerfile(context.path).build(name, { deleteOnExit: false });
  return name;
}

/** The release of this machine, so that what is built in a container runs here. @returns its name */
export async function debianImage(): Promise<string> {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(await readFile("/etc/os-release", "utf8"))?.[1];
  if (release === undefined) throw new Error("/etc/os-release names no release of Debian");
  const name = `flashyard-test-debian:${release}-${digestOf(packages)}`;
  if (await isThere(name)) return name;
  await using folder = await temporaryFolder();
  const [tree, archive] = [join(folder.path, "root"), join(folder.path, "root.tar")];
  await mkdir(tree);
  await run(["debootstrap", "--variant=minbase", `--include=${packages.join(",")}`, release, tree], folder.path);
  await run(["tar", "-C", tree, "-cf", archive, "."], folder.path);
  await rm(tree, { recursive: true });
  const { container } = await getContainerRuntimeClient();
  const [repo, tag] = name.split(":");
  const progress = await container.dockerode.importImage(archive, { repo, tag });
  await new Promise((resolve, reject) => progress.on("end", resolve).on("error", reject).resume());
  if (await isThere(name)) return name;
  throw new Error(`${name} could not be imported`);
}

async function isThere(name: string): Promise<boolean> {
  const { container } = await getContainerRuntimeClient();
  return container.dockerode
    .getImage(name)
    .inspect()
    .then(
      () => true,
      () => false,
    );
}

async function run(argv: readonly [string, ...string[]], cwd: string): Promise<void> {
  const { end, tail } = await runProcess({ argv, cwd, env: plainEnvironment(), totalMs: 600_000 });
  if (end.kind !== "exited" || end.exitCode !== 0) throw new Error(`${argv.join(" ")} failed:\n${tail.join("\n")}`);
}

function digestOf(parts: readonly (string | Buffer)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex").slice(0, 12);
}
