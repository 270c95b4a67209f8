/** Settings of agents that `flashyard up` hands on: they count for all that it starts. deploy/README.md says what each means. */
export const agentVariables: readonly string[] = [
  "FLASHYARD_PYTHON",
  "FLASHYARD_LABELS",
  "FLASHYARD_ESPHOME_VERSIONS",
  "FLASHYARD_PLATFORMS",
  "FLASHYARD_TREES_GB",
  "FLASHYARD_ENVIRONMENTS",
  "FLASHYARD_MDNS",
  "FLASHYARD_PORTS",
  "FLASHYARD_FLASHERS",
  "FLASHYARD_ESPTOOL",
  "FLASHYARD_AVRDUDE",
];
