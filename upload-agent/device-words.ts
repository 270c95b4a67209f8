/** Devices, builds and terms as the log of an upload names them. */
import type { EsphomeBuild } from "#protocol/artifact.ts";
import type { OtaTarget } from "#protocol/job.ts";
import type { FlashEvent } from "#upload-agent/flasher.ts";
import type { Probe } from "#upload-agent/probe.ts";

export function describeBuild(build: EsphomeBuild): string {
  return `${build.name}, ESPHome ${build.esphomeVersion}, built ${build.buildTimeStr}`;
}

/** What answered, by its own word. */
export function describeReport({ report, detail }: Probe): string {
  if (report === undefined) return detail ?? "an unknown build";
  return `${report.name} (${report.mac}), ESPHome ${report.esphomeVersion}, built ${report.compilationTime}`;
}

/** @param formerName of a device that may not have its new name yet */
export function describeWanted({ name, mac }: OtaTarget, formerName?: string): string {
  const names = formerName === undefined ? name : `${formerName} or ${name}`;
  return mac === undefined ? names : `${names} (${mac})`;
}

export function describeTerms(event: Extract<FlashEvent, { kind: "negotiated" }>): string {
  const { version, compression, authentication, encrypted, fallback } = event;
  const cipher = encrypted
    ? "encrypted"
    : `not encrypted${fallback === undefined ? "" : `, although that was wanted: ${fallback}`}`;
  return `protocol ${version}, compression ${compression}, password ${authentication}, ${cipher}`;
}
