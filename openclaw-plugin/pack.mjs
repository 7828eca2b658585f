// Makes the tarballs that are published: the plugin, and with --binary FILE the package of one platform that holds the
// weir binary. Nothing is built or fetched here.
//   node pack.mjs --out DIR [--binary target/dist/weir] [--platform linux] [--arch x64]
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { platformPackage } from "./src/binary.js";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const { values } = parseArgs({
  options: {
    out: { type: "string" },
    binary: { type: "string" },
    platform: { type: "string", default: process.platform },
    arch: { type: "string", default: process.arch },
  },
});
if (!values.out) throw new Error("--out DIR is missing: where the tarballs go");
const out = path.resolve(values.out);
mkdirSync(out, { recursive: true });

const pack = (folder) => {
  const told = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", out], { cwd: folder, encoding: "utf8" });
  // npm 10 tells a list, npm 11 an object by name.
  const [{ filename }] = Object.values(JSON.parse(told));
  return path.join(out, filename);
};

const main = JSON.parse(readFileSync(path.join(here, "package.json"), "utf8"));
const made = [pack(here)];
if (values.binary) {
  const folder = mkdtempSync(path.join(tmpdir(), "weir-pack-"));
  try {
    mkdirSync(path.join(folder, "bin"));
    const binary = path.join(folder, "bin", values.platform === "win32" ? "weir.exe" : "weir");
    copyFileSync(path.resolve(values.binary), binary);
    chmodSync(binary, 0o755);
    copyFileSync(path.join(here, "LICENSE"), path.join(folder, "LICENSE"));
    const name = platformPackage(values.platform, values.arch);
    const about = {
      name,
      version: main.version,
      description: `The weir binary for ${values.platform} ${values.arch}`,
      license: main.license,
      os: [values.platform],
      cpu: [values.arch],
      files: ["bin/"],
    };
    writeFileSync(path.join(folder, "package.json"), `${JSON.stringify(about, null, 2)}\n`);
    made.push(pack(folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
console.log(made.join("\n"));
