// Node 24 and OpenClaw, installed once into a folder of the user's cache. Must never touch another install of either.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";

export const OPENCLAW = "2026.9.6";
const NODE = "24.21.0";

const cache = process.env.WEIR_OPENCLAW_CACHE ?? path.join(homedir(), ".cache/weir/openclaw");

function installed(name, version, scripts) {
  const folder = path.join(cache, `${name}-${version}`);
  const complete = path.join(folder, "complete");
  if (!existsSync(complete)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, "package.json"), '{"private":true}');
    const flags = ["--no-audit", "--no-fund", "--loglevel=error", ...(scripts ? [] : ["--ignore-scripts"])];
    execFileSync("npm", ["install", `${name}@${version}`, ...flags], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
    writeFileSync(complete, "");
  }
  return path.join(folder, "node_modules");
}

/** Paths of both. The package `node` fetches its binary in its install script; OpenClaw needs none of its own. */
export function programs() {
  return {
    node: path.join(installed("node", NODE, true), "node/bin/node"),
    openclaw: path.join(installed("openclaw", OPENCLAW, false), "openclaw/openclaw.mjs"),
  };
}
