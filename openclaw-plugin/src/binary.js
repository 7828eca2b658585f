// Finds the weir binary: what the operator named, the platform package, PATH, in this order. Must never download one:
// OpenClaw installs packages without their scripts, and a program that fetches programs is nobody's friend.
import { accessSync, constants, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { noBinary, notExecutable } from "./advice.js";

const NAME = process.platform === "win32" ? "weir.exe" : "weir";

/** The npm package that holds the binary for this machine. */
export const platformPackage = (platform = process.platform, arch = process.arch) => `@weir/openclaw-${platform}-${arch}`;

/** Its full path; throws a sentence that says what to do. */
export function findBinary(named, { env = process.env, resolve = resolvePackage } = {}) {
  if (named) {
    if (!runs(named)) throw notExecutable(named);
    return named;
  }
  const wanted = platformPackage();
  const packaged = resolve(`${wanted}/package.json`);
  const places = [
    ...(packaged ? [path.join(path.dirname(packaged), "bin", NAME)] : []),
    ...(env.PATH ?? "").split(path.delimiter).filter(Boolean).map((folder) => path.join(folder, NAME)),
  ];
  const found = places.find(runs);
  if (!found) throw noBinary([`${wanted} (not installed)`.replace(packaged ? " (not installed)" : "", ""), "PATH"]);
  return found;
}

function runs(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function resolvePackage(name) {
  try {
    return createRequire(import.meta.url).resolve(name);
  } catch {
    return undefined;
  }
}
