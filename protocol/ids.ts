/** The identities of the farm, branded so that one cannot stand in for another. */
import { z } from "zod";

/** Sixteen characters of Crockford base 32: ten of the creation time in ms, six random. Sorts by creation time. */
export const ChainId = z
  .string()
  .regex(/^[0-9a-hjkmnp-tv-z]{16}$/)
  .brand<"ChainId">();
export type ChainId = z.infer<typeof ChainId>;

/** Name of a job inside its chain; the lane it runs on says what it does. */
export const JobName = z.enum(["compile", "upload", "confirm", "clean"]);
export type JobName = z.infer<typeof JobName>;

/** A machine's name in the farm. Safe as one NATS subject token and as a file name. */
export const AgentId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/)
  .brand<"AgentId">();
export type AgentId = z.infer<typeof AgentId>;

/** One life of an agent's process: what ran under an older boot is certainly dead when a newer one speaks. */
export const BootId = z
  .string()
  .regex(/^[0-9a-z]{8,32}$/)
  .brand<"BootId">();
export type BootId = z.infer<typeof BootId>;

/**
 * Key of a device: the name of its configuration file without the ending, as the user typed it. `*` stands for all of them in the
 * chains of a reset, and nowhere else.
 */
export const Configuration = z
  .string()
  .regex(
    /^(\*|[\p{L}\p{N}][\p{L}\p{N} ._-]{0,119})$/u,
    "a configuration is named with letters, digits, space, . _ - (at most 120)",
  )
  .brand<"Configuration">();
export type Configuration = z.infer<typeof Configuration>;

/** What an agent is said to be or to have, as its owner writes it: `fast`, `attic`, `gcc-14`. */
export const Label = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,39}$/, "a label has a-z, 0-9, . _ - (at most 40)")
  .brand<"Label">();
export type Label = z.infer<typeof Label>;

/** SHA-256 of some bytes in 64 lower-case hexadecimal digits. */
export const Digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .brand<"Digest">();
export type Digest = z.infer<typeof Digest>;

const crockford = "0123456789abcdefghjkmnpqrstvwxyz";

/**
 * Makes a chain id from a wall-clock instant (ms since 1970) and six random bytes; both are arguments so that the
 * simulation is deterministic.
 */
export function chainIdFrom(atMs: number, random: Uint8Array): ChainId {
  let time = "";
  let rest = Math.floor(atMs);
  for (let i = 0; i < 10; i++) {
    time = crockford[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  const tail = Array.from(random.subarray(0, 6), (byte) => crockford[byte % 32]).join("");
  return ChainId.parse(time + tail);
}

export const everyConfiguration = Configuration.parse("*");

/**
 * The ids of `count` chains that one request makes, the first of them the request's own: later ones count on in its random part,
 * so that a repeated request names the same chains. They sort in their order, except where all of that part runs over.
 */
export function siblingIds(first: ChainId, count: number): readonly ChainId[] {
  const [time, random] = [first.slice(0, 10), first.slice(10)];
  const base = Array.from(random).reduce((sum, digit) => sum * 32 + crockford.indexOf(digit), 0);
  return Array.from({ length: count }, (_, index) => {
    let tail = "";
    for (let rest = base + index; tail.length < random.length; rest = Math.floor(rest / 32)) {
      tail = crockford[rest % 32] + tail;
    }
    return ChainId.parse(time + tail);
  });
}

/** How people and logs write a job: `<chain>.<job>`. */
export function jobRef(chain: ChainId, job: JobName): string {
  return `${chain}.${job}`;
}
