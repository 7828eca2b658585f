// OpenClaw without Weir, on the same failing upstreams and with a fallback model of its own: until when the user has that
// model's answer. For comparison, not a test of Weir: minutes of waiting, so it runs only where it is asked for by name.
import { Lab } from "./lab.mjs";
import { oneGateway } from "./setups.mjs";
import { FAILING, address } from "./weir_config.mjs";

const FAULTS = { ...FAILING, cutting: "cut" };
const MODEL = { reasoning: false, input: ["text"], cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }, contextWindow: 65_536, maxTokens: 8192 };

const provider = (baseUrl, id) => ({
  baseUrl: `${baseUrl}/v1`,
  api: "openai-completions",
  apiKey: "lab",
  timeoutSeconds: 60,
  models: [{ ...MODEL, id, name: id }],
});

export const withoutWeir = {
  name: "OpenClaw alone",
  ...oneGateway,
  async open(programs) {
    const lab = await Lab.open(programs);
    const { scripted, closed } = lab.written;
    // A provider and an agent for each fault: OpenClaw remembers what failed for a while.
    const providers = { spare: provider(scripted, "spare") };
    const entries = {};
    for (const [name, fault] of Object.entries(FAULTS)) {
      const base = fault === "cut" ? `${scripted}/cut-all` : address({ name, fault, faults: lab.faults, closed });
      providers[`p-${name}`] = provider(base, "m");
      entries[name] = { model: { primary: `p-${name}/m`, fallbacks: ["spare/spare"] } };
    }
    await lab.configure({ models: { providers }, agents: { entries, defaults: { model: { primary: "spare/spare" } } } });
    return lab;
  },
};

/** One turn for each fault; whatever comes of it is written down. */
export const comparison = Object.keys(FAULTS).map((agent) => ({
  name: `upstream ${agent}`,
  async run({ lab }) {
    const { status, text, ms } = await lab.chat("hi", { user: `alone-${agent}`, agent });
    return { saw: text.slice(0, 80), timing: { turn: ms, fault: agent, by: status === 200 ? "its fallback model" : `nobody: HTTP ${status}` }, recorded: "" };
  },
}));
