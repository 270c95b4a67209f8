/** Every limit and deadline that more than one room must agree on, each with its reason. */

/** How often an agent beats; presence expires after five missed beats. */
export const presenceBeatMs = 1_000;
/** Shorter loses agents to a pause of the garbage collector or a leader election; longer delays the next attempt. */
export const presenceTtlMs = 5_000;

/**
 * How long a claim is good for. An agent that has not reached the coordinator for 60 % of it kills its own build and never
 * starts a flash, so that a replaced attempt never overlaps with its successor.
 */
export const leaseMs = 30_000;
export const leaseGiveUpMs = leaseMs * 0.6;

/** An ESPHome device keeps a silent OTA session for 105 s (ota_esphome.cpp, OTA_SOCKET_TIMEOUT_DATA). */
export const deviceDataTimeoutMs = 105_000;

/** How long a device has to come back after a flash and say what it runs. A Thread device needs about half of it. */
export const verifyMsMax = 60_000;

/** Retries of a failure that touched nothing: two more, five seconds apart, as ESPHome's own uploader does. */
export const attemptsMax = 3;
export const backoffMs = 5_000;

/** A build that says nothing for this long is stuck; a toolchain download is quiet for minutes on a slow line. */
export const buildSilenceMsMax = 10 * 60_000;
export const buildTotalMsMax = 60 * 60_000;
/** A Thread device takes nine minutes for 1 MB; twice that and a reserve. */
export const flashTotalMsMax = 25 * 60_000;

/** Between SIGTERM and SIGKILL of a build's process group. */
export const killGraceMs = 2_000;

export const bundleBytesMax = 64 * 1024 * 1024;
export const bundleUnpackedBytesMax = 256 * 1024 * 1024;
export const bundleFilesMax = 5_000;

/** A log chunk is published when it has this many bytes or this age, whichever comes first. */
export const logChunkBytes = 16 * 1024;
export const logChunkMs = 200;
export const logLineBytesMax = 4_096;
/** A job's log keeps its first bytes up to this and says that the rest was left out. */
export const logBytesMax = 8 * 1024 * 1024;

/** Chains of one request: one atomic batch of JetStream holds 1,000 messages. */
export const chainsPerRequestMax = 1_000;
