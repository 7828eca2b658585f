// Starts the real binary and the fault upstream for the client tests, and sees to it that both end with the test.
// Knows nothing of any client.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const release = path.join(process.env.CARGO_TARGET_DIR ?? path.resolve(new URL(".", import.meta.url).pathname, "../../target"), "release");
const WEIR = process.env.WEIR_BIN ?? path.join(release, "weir");
const UPSTREAM = process.env.WEIR_FAULT_UPSTREAM_BIN ?? path.join(release, "weir-fault-upstream");

/** The first line of a stream that `pick` takes something from. */
function awaitLine(child, stream, pick) {
  return new Promise((resolve, reject) => {
    let text = "";
    const lines = createInterface({ input: stream });
    lines.on("line", (line) => {
      text += `${line}\n`;
      const found = pick(line);
      if (found) resolve(found);
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`ended with ${code}:\n${text}`)));
  });
}

/** An upstream that misbehaves on command: `backend(name, fault)` is its config, `seen()` what it was asked. */
export async function startUpstream(t) {
  const child = spawn(UPSTREAM, [], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.kill());
  const base = await awaitLine(child, child.stdout, (line) => line.trim());
  return {
    backend: (name, fault) =>
      `[[backend]]\nname = "${name}"\nbase_url = "${base}/${fault}/v1"\nmodel = "${name}-model"\n` +
      "first_content_timeout_ms = 20000\nidle_timeout_ms = 20000\n\n",
    seen: async () => (await fetch(`${base}/seen`)).json(),
  };
}

/** A gateway with this config; it lives as long as the test. */
export async function startWeir(t, config = "") {
  const folder = await mkdtemp(path.join(tmpdir(), "weir-clients-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "weir.toml");
  await writeFile(file, config);
  const child = spawn(WEIR, ["serve", "--listen", "127.0.0.1:0", "--config", file], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  t.after(() => child.kill());
  return awaitLine(child, child.stderr, (line) => line.match(/listens on (http:\S+)/)?.[1]);
}

/** Asks until `condition` gives something; a test's own timeout bounds it. */
export async function until(condition) {
  for (;;) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A policy without fallback, so that the client meets the fault itself. */
export async function withoutFallback(t) {
  const folder = await mkdtemp(path.join(tmpdir(), "weir-policy-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "policy.toml");
  const rule = '[[rule]]\nname = "all"\nroute = "ar"\nreason = "test"\nattempts = [{ backend = "ar" }]\n';
  await writeFile(file, `[pins]\nfallback = []\n\n${rule}`);
  return `[policy]\nfile = ${JSON.stringify(file)}\n\n`;
}

export const LIGHTS = {
  prompt: "turn off the kitchen lights",
  name: "set_light",
  description: "Switch the lights of a room on or off.",
  parameters: {
    type: "object",
    properties: { room: { type: "string" }, on: { type: "boolean" } },
    required: ["room", "on"],
  },
};

export const ANSWER = "The upstream says that all is well.";
