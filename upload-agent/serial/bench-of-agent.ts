/** What an agent's process has for its ports, from its settings; and what it says of them. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#actor/clock.ts";
import type { GroupLedger } from "#actor/process-group.ts";
import { once, type Service } from "#actor/service.ts";
import type { UploadCapabilities } from "#protocol/agent.ts";
import type { PortId, SerialPortView } from "#protocol/serial.ts";
import type { Esptool } from "#upload-agent/serial/esptool-environment.ts";
import type { SerialBench } from "#upload-agent/serial/flash-serial.ts";
import type { CommandFlashers } from "#upload-agent/serial/flasher-file.ts";
import { PortOwners } from "#upload-agent/serial/port-owner.ts";
import { SerialPorts } from "#upload-agent/serial/ports.ts";

export interface PortSettings {
  /** Ports that the owner has named (FLASHYARD_PORTS). */
  readonly named: ReadonlyMap<PortId, string>;
  /** FLASHYARD_FLASHERS */
  readonly flasherFile?: string | undefined;
  /** FLASHYARD_ESPTOOL */
  readonly esptool?: string | undefined;
  /** FLASHYARD_AVRDUDE */
  readonly avrdude?: string | undefined;
  /** FLASHYARD_PYTHON */
  readonly python?: string | undefined;
  readonly cacheFolder: string;
  readonly home: string;
}

export interface AgentBench extends SerialBench {
  readonly ports: SerialPorts;
}

/** @throws UsageError for a file of flashers that cannot be used */
export async function benchOfAgent(settings: PortSettings, clock: Clock, ledger: GroupLedger): Promise<AgentBench> {
  const { named, flasherFile, esptool: hint, avrdude = "avrdude", python: pythonHint, cacheFolder } = settings;
  const flashers: CommandFlashers = flasherFile === undefined ? new Map() : await flashersIn(flasherFile);
  const images = join(settings.home, "images");
  // Images of a predecessor that was killed.
  await rm(images, { recursive: true, force: true });
  await mkdir(images, { recursive: true, mode: 0o700 });
  let kept: Esptool | undefined;
  return {
    ports: new SerialPorts({ named, clock }),
    owners: new PortOwners({ folder: cacheFolder, clock }),
    esptool: async (signal, onLine) => {
      if (kept !== undefined) return { ok: true, esptool: kept };
      // Loaded by the first flash over a port: most agents have none, and small memories.
      const { findEsptool } = await import("#upload-agent/serial/esptool-environment.ts");
      const found = await findEsptool({ cacheFolder, clock, hint, pythonHint, signal, onLine });
      if (found.ok) kept = found.esptool;
      return found;
    },
    avrdude,
    flashers,
    clock,
    workFolder: await mkdtemp(join(images, "of-")),
    ledger,
  };
}

async function flashersIn(file: string): Promise<CommandFlashers> {
  const { readFlasherFile } = await import("#upload-agent/serial/flasher-file.ts");
  return readFlasherFile(file);
}

interface WatchedBench extends Pick<SerialBench, "flashers"> {
  readonly ports: Pick<SerialPorts, "follow">;
}

/** Follows what is plugged in, until it is stopped. */
export class PortWatch implements Service {
  readonly #bench: WatchedBench;
  readonly #stopping = new AbortController();
  #tell: (capabilities: UploadCapabilities) => void = () => undefined;
  #seen: UploadCapabilities | undefined;
  #following: Promise<void> = Promise.resolve();

  constructor(bench: WatchedBench) {
    this.#bench = bench;
  }

  readonly start = once(async (): Promise<void> => {
    if (this.#stopping.signal.aborted) return;
    this.#following = this.#bench.ports.follow(this.#stopping.signal, (ports) => {
      this.#seen = capabilitiesOf(this.#bench, ports);
      this.#tell(this.#seen);
    });
  });

  /** Tells what has been seen by now, as a port may have come since the first statement was made, and then each change. */
  tellTo(tell: (capabilities: UploadCapabilities) => void): void {
    this.#tell = tell;
    if (this.#seen !== undefined) tell(this.#seen);
  }

  readonly stop = once(async (): Promise<void> => {
    this.#stopping.abort();
    await this.#following;
  });

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** As many as a statement holds; more are not flashed. */
const portsMax = 64;

export function capabilitiesOf(
  { flashers }: Pick<SerialBench, "flashers">,
  ports: readonly SerialPortView[],
): UploadCapabilities {
  return { ports: ports.slice(0, portsMax), flashers: [...flashers.keys()] };
}
