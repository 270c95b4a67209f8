/** A wheel called `esphome` that only knows its version: real pip installs it in a second, without a network. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";

const script = `
import sys, zipfile
folder, version, requires = sys.argv[1:]
info = f"esphome-{version}.dist-info"
files = {
    "esphome_tiny.py": f"def main():\\n    import sys\\n    print('Version: {version}')\\n    return 0\\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: esphome\\nVersion: {version}\\nRequires-Python: {requires}\\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    f"{info}/entry_points.txt": "[console_scripts]\\nesphome = esphome_tiny:main\\n",
}
files[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in files) + f"{info}/RECORD,,\\n"
with zipfile.ZipFile(f"{folder}/esphome-{version}-py3-none-any.whl", "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
`;

export interface TinyWheel {
  readonly folder: string;
  readonly version: string;
  readonly requiresPython: string;
}

/** @param python any interpreter, to write the archive. */
export function writeTinyWheel(python: string, { folder, version, requiresPython }: TinyWheel): string {
  execFileSync(python, ["-c", script, folder, version, requiresPython]);
  return join(folder, `esphome-${version}-py3-none-any.whl`);
}
