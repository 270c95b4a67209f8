/** `flashyard version`. Imports next to nothing: it must be quick on the slowest machine. */
import { farmVersion } from "#protocol/version.ts";

export function versionLine(nodeVersion: string, isJson: boolean): string {
  return isJson
    ? JSON.stringify({ version: farmVersion, node: nodeVersion })
    : `flashyard ${farmVersion}, Node.js ${nodeVersion}`;
}
