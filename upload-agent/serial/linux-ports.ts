/**
 * The serial ports of a Linux machine, read where the kernel and udev keep them. `serialport` would ask the program `udevadm`, which
 * a container does not have, and whose absence it throws where nobody can catch it.
 *
 * A port is called what udev calls it in `/dev/serial/by-id`. Two adapters without a serial number have the same name there, and
 * udev gives it to the one that came last: such a name is given to none of the two, each is called by the socket that it is in.
 */
import { readdir, readFile, readlink, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PortId, type SerialPortView } from "#protocol/serial.ts";

/** Where the kernel says what it has; another one in tests. */
export interface LinuxTree {
  readonly sys: string;
  readonly dev: string;
}

const machineTree: LinuxTree = { sys: "/sys", dev: "/dev" };

/** USB adapters and chips with USB of their own; the UARTs of a board, which are there only when something drives them. */
const terminal = /^tty(USB|ACM|AMA|S|O|mxc|THS|SC|HS|LP|XRUSB)\d+$/;
/** A USB device is at most a few interfaces and hubs above its terminal. */
const ancestorsMax = 8;

interface UsbDevice {
  /** The kernel's name of the socket: `1-1.4`. */
  readonly socket: string;
  readonly vendorId: string;
  readonly productId: string;
  readonly manufacturer: string | undefined;
  readonly serialNumber: string | undefined;
}

interface Found {
  readonly name: string;
  readonly path: string;
  readonly byId: string | undefined;
  readonly usb: UsbDevice | undefined;
}

/** Throws nothing: what cannot be read is not there. */
export async function listLinuxPorts(tree: LinuxTree = machineTree): Promise<readonly SerialPortView[]> {
  const names = await readdir(join(tree.sys, "class/tty")).catch(() => []);
  const byId = await namesById(tree);
  const found = await Promise.all(names.filter((name) => terminal.test(name)).map((name) => look(tree, name, byId)));
  const ports = found.filter((port) => port !== undefined);
  return ports
    .map((port) => namedView(port, hasTwin(port, ports)))
    .toSorted((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
}

/** Another adapter of the same model, and no serial number that would tell the two apart. */
function hasTwin({ usb }: Found, ports: readonly Found[]): boolean {
  if (usb === undefined || usb.serialNumber !== undefined) return false;
  return ports.some(
    ({ usb: other }) =>
      other !== undefined &&
      other.serialNumber === undefined &&
      other.socket !== usb.socket &&
      other.vendorId === usb.vendorId &&
      other.productId === usb.productId,
  );
}

async function namesById({ dev }: LinuxTree): Promise<ReadonlyMap<string, string>> {
  const folder = join(dev, "serial/by-id");
  const names = await readdir(folder).catch(() => []);
  const links = await Promise.all(
    names.map(async (name) => [basename(await readlink(join(folder, name)).catch(() => "")), name] as const),
  );
  return new Map(links);
}

async function look(tree: LinuxTree, name: string, byId: ReadonlyMap<string, string>): Promise<Found | undefined> {
  const path = join(tree.dev, name);
  if ((await stat(path).catch(() => undefined)) === undefined) return undefined;
  const place = join(tree.sys, "class/tty", name);
  // The kernel makes more `ttyS` than there are: those of type 0 have nothing behind them.
  if ((await textOf(join(place, "type"))) === "0") return undefined;
  const device = await realpath(join(place, "device")).catch(() => undefined);
  const usb = device === undefined ? undefined : await usbAbove(device);
  return { name, path, byId: byId.get(name), usb };
}

async function usbAbove(device: string): Promise<UsbDevice | undefined> {
  let place = device;
  for (let left = ancestorsMax; left > 0; left--) {
    const vendorId = await textOf(join(place, "idVendor"));
    if (vendorId !== undefined) {
      return {
        socket: basename(place),
        vendorId,
        productId: (await textOf(join(place, "idProduct"))) ?? "",
        manufacturer: await textOf(join(place, "manufacturer")),
        serialNumber: await textOf(join(place, "serial")),
      };
    }
    place = dirname(place);
  }
  return undefined;
}

async function textOf(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.trim() === "" ? undefined : text.trim();
}

function namedView({ name, path, byId, usb }: Found, hasTwin: boolean): SerialPortView {
  if (usb === undefined) return viewOf(portIdOf([name]), path, {});
  const { vendorId, productId, serialNumber, socket } = usb;
  const isOwnName = serialNumber !== undefined || !hasTwin;
  const own = isOwnName && byId !== undefined ? [byId] : ["usb", vendorId, productId, serialNumber ?? `at-${socket}`];
  return viewOf(portIdOf(own), path, usb);
}

/** What is said of an adapter, as far as a statement has room for it. */
export interface AdapterFacts {
  readonly vendorId?: string | undefined;
  readonly productId?: string | undefined;
  readonly manufacturer?: string | undefined;
  readonly serialNumber?: string | undefined;
}

export function viewOf(id: PortId, path: string, facts: AdapterFacts): SerialPortView {
  const { vendorId, productId, manufacturer, serialNumber } = facts;
  return {
    id,
    path,
    ...(vendorId === undefined ? {} : { vendorId: vendorId.slice(0, 8) }),
    ...(productId === undefined ? {} : { productId: productId.slice(0, 8) }),
    ...(manufacturer === undefined ? {} : { manufacturer: manufacturer.slice(0, 120) }),
    ...(serialNumber === undefined ? {} : { serialNumber: serialNumber.slice(0, 120) }),
  };
}

/** What a maker wrote may hold any character. */
export function portIdOf(parts: readonly string[]): PortId {
  const plain = parts
    .join("-")
    .replaceAll(/[^A-Za-z0-9._:+-]+/g, "_")
    .replace(/^[^A-Za-z0-9]+/, "");
  return PortId.parse(plain.slice(0, 120) || "port");
}
