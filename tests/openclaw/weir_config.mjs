// Weir's own files in a lab: `weir.toml` and the rules. Must never name an address outside of this machine.
import { cp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../..");

/** The upstreams that fail, by the name of their backend and the fault. */
export const FAILING = { refused: "refused", silent: "silent", unavailable: "503", limited: "429", locked: "401", unpaid: "402", overflowing: "overflow" };

/** Where the upstream with this fault is; `closed` is a port that nobody listens on. */
export const address = ({ name, fault, faults, closed }) => (name === "refused" ? `http://127.0.0.1:${closed}` : `${faults}/${fault}`);

/** What a million tokens of the scripted upstream cost: enough for a budget to be felt. */
const PRICE = "price = { input = 10.0, output = 10.0 }\n";

/** The embedded diffusion model with a longer window, so that OpenClaw's errands and prompts fit into the real engine. */
export async function wideNano(folder) {
  const model = path.join(folder, "wide-nano");
  await cp(path.join(root, "models/nano/diffusion"), model, { recursive: true });
  const about = JSON.parse(await readFile(path.join(model, "config.json"), "utf8"));
  await writeFile(path.join(model, "config.json"), JSON.stringify({ ...about, max_position_embeddings: 65_536 }));
  return model;
}

/**
 * `weir.toml`. `scripted` and `faults` are the upstreams' addresses, `smollm2` the
 * file of the real AR model where there is one, `more` further sections; `onCut` is what follows a stream that breaks off.
 */
export async function writeConfig(folder, { model, scripted, faults, closed, smollm2, more = "", onCut = "error" }) {
  const backend = (name, base) =>
    `[[backend]]\nname = "${name}"\nmodel = "${name}"\nbase_url = "${base}/v1"\ncontext_tokens = 65536\n` +
    "headers_timeout_ms = 500\nfirst_content_timeout_ms = 500\nconnect_timeout_ms = 500\n";
  const file = path.join(folder, "weir.toml");
  await writeFile(
    file,
    [
      '[policy]\nfile = "policy.toml"\n',
      `[attempts]\non_cut = "${onCut}"\n`,
      '[request_log]\nenabled = true\nfile = "requests.jsonl"\n',
      `[engine.diffusion]\nmodel = ${JSON.stringify(model)}\nname = "wide-nano"\nkv_cache_mb = 512\n`,
      ...(smollm2 ? [`[engine.ar]\nmodel = ${JSON.stringify(smollm2)}\nname = "smollm2"\nkv_cache_mb = 512\n`] : []),
      `[[backend]]\nname = "script"\nmodel = "scripted"\nbase_url = "${scripted}/v1"\ncontext_tokens = 65536\n${PRICE}`,
      backend("cutting", `${scripted}/cut-first`),
      ...Object.entries(FAILING).map(([name, fault]) => backend(name, address({ name, fault, faults, closed }))),
      more,
    ].join("\n"),
  );
  return file;
}

/**
 * The rules: short transformations go to diffusion, a person's question about something with a name to the real AR model,
 * both condensed to what such models can hold; all else to the script. `fallback` is who stands in for an upstream that
 * was asked for by name and fails.
 */
export async function writePolicy(folder, { reason = "the lab's rule", fallback = "diffusion", smollm2 }) {
  const script = '{ backend = "script" }';
  const condensed = (backend) => `{ backend = "${backend}", condense = true }`;
  const fact = [
    '[[rule]]\nname = "fact"\nwhen = "trigger == \'user\' && question && names_percent > 0"',
    `route = "ar"\nreason = "a question"\nattempts = [${condensed("ar")}, ${script}]\n`,
  ];
  const text = [
    `[pins]\nfallback = [${condensed(fallback)}, ${script}]\n`,
    '[condense]\ninstructions = "You are a helpful assistant. Answer the last message briefly and in plain words, and say nothing else."',
    "turns = 0\nmax_bytes = 1200\nmax_tools = 0\n",
    '[[rule]]\nname = "short"\nwhen = "transform_shape && !tail_is_tool_result"\nroute = "diffusion"\nreason = "short"',
    `attempts = [${condensed("diffusion")}, ${script}]\n`,
    ...(smollm2 ? fact : []),
    `[[rule]]\nname = "all"\nroute = "ar"\nreason = ${JSON.stringify(reason)}\nattempts = [${script}]\n`,
  ];
  await writeFile(path.join(folder, "policy.toml"), text.join("\n"));
}
