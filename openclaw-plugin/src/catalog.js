// What Weir lists at `/v1/models`, as OpenClaw's model rows. Must never advertise a window smaller than OpenClaw's own
// prompt on the three names it gives to agents.
import { LEAST_WINDOW } from "./settings.js";

const FREE = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
const NAMES = { auto: "Weir: the policy decides", diffusion: "Weir: diffusion", ar: "Weir: AR" };
const LONGEST_ANSWER = { auto: 8_192, diffusion: 2_048, ar: 8_192 };

/** The three names every Weir has; `listed` is the `data` of its answer, absent while it is not reachable. */
export function modelRows(listed, contextWindow) {
  const found = new Map((listed ?? []).map((entry) => [entry.id, entry]));
  const ours = Object.keys(NAMES)
    .filter((id) => listed === undefined || found.has(id))
    .map((id) => row(id, NAMES[id], contextWindow ?? Math.max(found.get(id)?.context_window ?? 0, LEAST_WINDOW), LONGEST_ANSWER[id]));
  const others = [...found.values()]
    .filter((entry) => !(entry.id in NAMES))
    .map((entry) => row(entry.id, `Weir: ${entry.id}`, entry.context_window ?? LEAST_WINDOW, 8_192));
  return [...ours, ...others];
}

function row(id, name, contextWindow, maxTokens) {
  return {
    id,
    name,
    api: "openai-completions",
    reasoning: false,
    input: ["text"],
    cost: FREE,
    contextWindow,
    maxTokens: Math.min(maxTokens, contextWindow),
    compat: {
      supportsStore: false,
      supportsUsageInStreaming: true,
      ...(id === "diffusion" ? { supportsTools: false } : {}),
    },
  };
}
