/** What this machine signs in with, and the keys of a farm that lie on it. */
import { X509Certificate } from "node:crypto";
import { stat } from "node:fs/promises";
import { messageOf } from "#protocol/errors.ts";
import { spkiDigest } from "#bus/identity/spki-digest.ts";
import { type Credentials, readCredentials } from "#bus/identity/credentials.ts";
import { keysFile } from "#bus/identity/farm-identity.ts";
import { readFarmKeys } from "#bus/identity/farm-keys.ts";
import { describeRole } from "#bus/identity/sign-in.ts";
import { endOf } from "#bus/identity/token-claims.ts";
import { type Check, failedCheck, ok, problem, warning } from "#cli/doctor/check.ts";
import { duration } from "#cli/render.ts";

const dayMs = 86_400_000;
/** Enough to notice, and to do something about it. */
const endWarningMs = 7 * dayMs;
/** Whoever prints a new certificate has to plan it. */
const certificateWarningMs = 30 * dayMs;

/**
 * All that is to be said of one file of credentials.
 * @param isNeeded false for people, who may have an open farm @param whose behind the names of the checks: ` of build-1`
 */
export async function checkCredentials(
  path: string,
  now: number,
  isNeeded: boolean,
  whose = "",
): Promise<readonly Check[]> {
  const name = `credentials${whose}`;
  try {
    const credentials = await readCredentials(path);
    if (credentials !== undefined) {
      const found = ok(name, `${path}: ${describeRole(credentials.role)}`);
      return [found, checkToken(endOf(credentials.token), now, whose), ...checkAuthority(credentials.farm, now, whose)];
    }
    const missing = `there is no ${path}`;
    if (isNeeded) return [problem(name, missing, "pair the agent with the farm (docs/pairing.md)")];
    const fix =
      "`flashyard up` makes them on its machine; copy that file here, or name another in FLASHYARD_CREDENTIALS";
    return [warning(name, missing, fix)];
  } catch (error) {
    return [failedCheck(name, error, "give the file to its owner alone (chmod 600), or pair this machine anew")];
  }
}

/** Pure. */
export function checkToken(endsAt: number | undefined, now: number, whose = ""): Check {
  const name = `sign-in${whose}`;
  const fix = "pair this machine with the farm anew (docs/pairing.md)";
  if (endsAt === undefined) return ok(name, "does not end by itself");
  if (Number.isNaN(endsAt)) return problem(name, "the token cannot be read", fix);
  if (endsAt <= now) return problem(name, `has ended ${duration(now - endsAt)} ago`, fix);
  const found = `ends in ${duration(endsAt - now)}`;
  if (endsAt - now > endWarningMs) return ok(name, found);
  return warning(name, found, "start the agent, which renews it while it is connected, or pair the machine anew");
}

/** Pure. The pin is what was compared when this machine was paired; the certificate has to be of that key. */
export function checkAuthority(
  { pin, authority }: Pick<Credentials["farm"], "pin" | "authority">,
  now: number,
  whose = "",
): readonly Check[] {
  const name = `farm's authority${whose}`;
  const fix = "pair this machine with the farm anew: its credentials are damaged, or somebody has changed them";
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(authority);
  } catch (error) {
    return [problem(name, `its certificate cannot be read (${messageOf(error)})`, fix)];
  }
  const digest = spkiDigest(certificate.publicKey);
  const key =
    digest === pin
      ? ok(name, `${pin.slice(0, 16)}…, as pinned`)
      : problem(name, `its key is ${digest.slice(0, 16)}…, and ${pin.slice(0, 16)}… is pinned`, fix);
  const until = Date.parse(certificate.validTo);
  return [
    key,
    checkCertificateEnd(
      `authority's certificate${whose}`,
      until,
      now,
      "make the farm's authority anew, and pair all agents",
    ),
  ];
}

/** Pure. */
export function checkCertificateEnd(name: string, endsAt: number, now: number, fix: string): Check {
  if (endsAt <= now) return problem(name, `has ended ${duration(now - endsAt)} ago`, fix);
  const found = `ends in ${duration(endsAt - now)}`;
  return endsAt - now > certificateWarningMs ? ok(name, found) : warning(name, found, fix);
}

/** The keys are the farm: whoever has them signs in as anybody. */
export async function checkFarmKeys(folder: string): Promise<readonly Check[]> {
  const path = keysFile(folder);
  const checks: Check[] = [];
  try {
    const keys = await readFarmKeys(path);
    const fix = "restore them from a backup: without them no agent can be paired (docs/operations.md)";
    checks.push(keys === undefined ? problem("farm's keys", `there is no ${path}`, fix) : ok("farm's keys", path));
  } catch (error) {
    checks.push(
      failedCheck("farm's keys", error, `chmod 600 ${path}, or restore it from a backup (docs/operations.md)`),
    );
  }
  const found = await stat(folder).catch(() => undefined);
  return found === undefined ? checks : [...checks, checkMode("identity folder", folder, found.mode)];
}

/** Pure. */
export function checkMode(name: string, path: string, mode: number): Check {
  const shown = `${path} has mode ${(mode & 0o777).toString(8).padStart(3, "0")}`;
  const isFolder = (mode & 0o170000) === 0o040000;
  if ((mode & 0o077) === 0) return ok(name, shown);
  return problem(name, `${shown}: others may look into it`, `chmod ${isFolder ? "700" : "600"} ${path}`);
}
