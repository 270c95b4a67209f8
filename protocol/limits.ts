/** Every limit and deadline that more than one room must agree on, each with its reason. */

/** How often an agent beats; presence expires after five missed beats. */
export const presenceBeatMs = 1_000;
/** Shorter loses agents to a pause of the garbage collector or a leader election; longer delays the next attempt. */
export const presenceTtlMs = 5_000;

/**
 * How long a coordinator leads without renewing its lease. Shorter deposes it for a pause of the garbage collector or a leader
 * election; longer delays the standby, which is to work within 10 s.
 */
export const leadTtlMs = 5_000;

/**
 * How long a claim is good for. An agent that has not reached the coordinator for 60 % of it kills its own build and never
 * starts a flash, so that a replaced attempt never overlaps with its successor.
 */
export const leaseMs = 30_000;
export const leaseGiveUpMs = leaseMs * 0.6;

/**
 * How long an agent's token is good for. Shorter shuts out a machine that was switched off for a holiday, until it has asked for a new one;
 * longer gives whoever has stolen one more time where its revocation does not arrive.
 */
export const tokenMs = 30 * 24 * 60 * 60_000;

/** A token that has less than this left is renewed. Two thirds of its time: it outlasts a coordinator that is away for weeks. */
export const tokenRenewMs = 20 * 24 * 60 * 60_000;

/**
 * Wrong codes after which every open invitation is locked. A code has 80 bits: this is no help against guessing, it tells the admin that
 * somebody does. More would say it later.
 */
export const wrongTriesMax = 10;
/** Invitations at one time; and machines that wait at once are no more than these. */
export const invitationsMax = 50;
/** How long a machine that has used a code waits for a person. */
export const approvalMs = 60 * 60_000;
/** How long an invitation that is over is remembered, so that whoever still uses it is told what became of it. */
export const invitationMemoryMs = 60 * 60_000;

/** An ESPHome device keeps a silent OTA session for 105 s (ota_esphome.cpp, OTA_SOCKET_TIMEOUT_DATA). */
export const deviceDataTimeoutMs = 105_000;

/** Between SIGTERM and SIGKILL of a build's process group. */
export const killGraceMs = 2_000;

/** How long a device has to come back after a flash and say what it runs. A Thread device needs about half of it. */
export const verifyMsMax = 60_000;

/**
 * How long after its flash a device is asked once more. ESPHome takes a boot for good after 60 s (`safe_mode: boot_is_good_after`), and an
 * ESP32 goes back to the build before when it restarts earlier than that.
 */
export const confirmAfterMs = 60_000;

/** Retries of a failure that touched nothing: two more, five seconds apart, as ESPHome's own uploader does. */
export const attemptsMax = 3;
export const backoffMs = 5_000;
/** Each pause is three times as long as the one before; no longer than this. */
export const backoffMsMax = 60_000;
/** A build whose agents die under it is not at fault; a build that kills its agents is. */
export const lostAttemptsMax = 5;

/**
 * What a clean or reset has told to end is dead after this, or the clean fails: a lease for agents that are away, the grace of a
 * kill, and as much again. A flash past its claim is waited for without this limit; `flashTotalMsMax` bounds it.
 */
export const deathMsMax = 2 * leaseMs + killGraceMs;

/** A Thread device takes nine minutes for 1 MB; twice that and a reserve. Over all tries of one attempt. */
export const flashTotalMsMax = 25 * 60_000;

/** How long a stage of a job may say nothing, where it has something to say, and how long it may take in all. */
export interface StageLimit {
  readonly silenceMs?: number;
  readonly totalMs: number;
}

/**
 * Every stage of a job ends: by itself, by a stop order, or by its limit, which is a `Failure` of the kind `deadline` where no other
 * says more. What happens then is in docs/limits.md, with every limit that only one room knows.
 */
export const stageLimits = {
  /** A chunk has 512 KiB: slower than 9 kB/s is taken for stalled. 64 MiB in a quarter of an hour is a line of 75 kB/s. */
  fetching: { silenceMs: 60_000, totalMs: 15 * 60_000 },
  /** 300 MB of wheels on a slow line; pip says nothing while it unpacks one. Includes the wait for another process that makes it. */
  environment: { silenceMs: 5 * 60_000, totalMs: 30 * 60_000 },
  /** 256 MiB in 5,000 files, on an SD card. */
  unpacking: { totalMs: 5 * 60_000 },
  /** A build that says nothing for this long is stuck; a toolchain download is quiet for minutes on a slow line. */
  compiling: { silenceMs: 10 * 60_000, totalMs: 60 * 60_000 },
  /** A build leaves a few megabytes; at most 16 images of 64 MiB. */
  collecting: { totalMs: 5 * 60_000 },
  /** As `fetching`, for all images of a build. */
  storing: { silenceMs: 60_000, totalMs: 30 * 60_000 },
  /** A tree with a whole framework has 50,000 files: a minute on an SD card. A reset takes hundreds of them away. */
  cleaning: { silenceMs: 10 * 60_000, totalMs: 60 * 60_000 },
  /** One question, and where nobody answers it a connection to each of the device's addresses. */
  checking: { totalMs: 60_000 },
  /** Longer, and the answer would come too late to be used. */
  claiming: { totalMs: leaseGiveUpMs },
  /** To one address; ESPHome's own uploader gives a device as long. */
  connecting: { totalMs: 20_000 },
  /** From the connection to the accepted password. The device's own watchdog cuts a handshake after 20 s. */
  negotiating: { totalMs: 20_000 },
  /** Without a sign of the device while it prepares, takes and commits: longer than its own 105 s, so that it gives up first. */
  flashing: { silenceMs: 160_000, totalMs: flashTotalMsMax },
  verifying: { totalMs: verifyMsMax },
} as const satisfies Readonly<Record<string, StageLimit>>;
export type Stage = keyof typeof stageLimits;
export type StageLimits = Readonly<Record<Stage, StageLimit>>;

export const bundleBytesMax = 64 * 1024 * 1024;
export const bundleUnpackedBytesMax = 256 * 1024 * 1024;
export const bundleFilesMax = 5_000;

/** A log chunk is published when it has this many bytes or this age, whichever comes first. */
export const logChunkBytes = 16 * 1024;
export const logChunkMs = 200;
export const logLineBytesMax = 4_096;
/** A job's log keeps its first bytes up to this and says that the rest was left out. */
export const logBytesMax = 8 * 1024 * 1024;

/** What the history keeps beside the latest of each job of each configuration: 5,000 chains are 10 MB, and 250 MB of logs. */
export const historyChainsMax = 5_000;
export const historyDaysMax = 90;

/** Records that one atomic batch of JetStream holds. */
export const atomicRecordsMax = 1_000;
/** Chains of one request; with those that they supersede they must not be more than `atomicRecordsMax`. */
export const chainsPerRequestMax = atomicRecordsMax;

/**
 * What one claim, one report and one chain of a request may have as JSON: a report with forty lines of an error and sixteen images has 30 kB.
 * Without it a report would fit into a message and its record not, and the coordinator could never write it.
 */
export const askBytesMax = 256 * 1024;

/** Of a password or key of a device: 256 characters, of four bytes each, with what sealing and its base64 add. */
export const secretTextMax = 1_500;
