// A real AR model, SmolLM2 out of a GGUF file in Weir's own engine, as `ar`: asked directly, by rule, in place of an upstream
// that fails, and in the middle of an answer that broke off. What it says is what a person would want to hear.
import assert from "node:assert/strict";

import { measured, tookOver } from "./faults.mjs";
import { until } from "./lab.mjs";
import { CUT } from "./upstream.mjs";

/** One whose answer does not hang on how weights are rounded: tried with two roundings and none, with and without instructions. */
const QUESTION = "How many days does a week have, 5 or 7?";
const ANSWER = /\b7 days\b/u;
const CONVERSATION = "facts";
const needs = "smollm2";

/** Asserts on a turn that the rules gave to the model. */
function byRule({ text, lines }) {
  const [{ backend, plan, usage }] = lines;
  assert.deepEqual([plan.rule, backend], ["fact", "ar"]);
  assert.ok(usage.completion_tokens >= 3, JSON.stringify(usage));
  assert.match(text, ANSWER);
  return `rule fact, ${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out`;
}

export const realModelAlone = [
  {
    name: "SmolLM2: infer model run",
    needs,
    async run({ lab }) {
      const { code, out, all } = await lab.cli("infer", "model", "run", "--local", "--model", "weir/ar", "--prompt", QUESTION, "--json");
      assert.equal(code, 0, all);
      const [{ text }] = JSON.parse(out).outputs;
      assert.match(text, ANSWER);
      const { backend, usage } = await lab.lineOf(lab.calls().at(-1));
      assert.equal(backend, "ar");
      return { saw: text, recorded: `backend ar, ${usage.completion_tokens} tokens` };
    },
  },
];

export const realModel = [
  {
    name: "SmolLM2: chat turn, plain",
    needs,
    async run({ lab }) {
      await lab.chat(QUESTION, { user: CONVERSATION });
      const turn = await measured(lab, QUESTION, { user: CONVERSATION, model: "auto" });
      const recorded = byRule(turn);
      return { saw: turn.text, timing: { ...turn.timing, fault: "none", by: "SmolLM2" }, recorded };
    },
  },
  {
    name: "SmolLM2: chat turn, streamed",
    needs,
    async run({ lab }) {
      const from = lab.tapped.length;
      const { text, done, pieces } = await lab.chat(QUESTION, { user: CONVERSATION, stream: true });
      assert.ok(done && pieces > 3, `${pieces} events, ends with [DONE]: ${done}`);
      const call = lab.calls(from).find(({ body }) => body.model === "auto");
      return { saw: `${text} [DONE]`, recorded: `${byRule({ text, lines: [await lab.lineOf(call)] })}; ${pieces} events` };
    },
  },
  {
    name: "SmolLM2: client leaves",
    needs,
    async run({ lab }) {
      const cancelled = () => lab.metric("weir_requests_total", { backend: "ar", outcome: "cancelled" });
      const before = await cancelled();
      const leaving = new AbortController();
      const question = "What are the hundred longest rivers of Africa, Asia and America? Tell a long story about each.";
      const turn = lab.chat(question, { user: "rivers", stream: true, signal: leaving.signal }).catch(() => {});
      await until("it answers", async () => (await lab.metric("weir_in_flight", { backend: "ar" })) > 0);
      leaving.abort();
      await turn;
      await until("the engine stopped", async () => (await cancelled()) > before, 30_000);
      await until("nothing runs", async () => (await lab.metric("weir_in_flight", { backend: "ar" })) === 0, 30_000);
      return { saw: "(left)", recorded: "outcome cancelled, nothing in flight" };
    },
  },
  ...["refused", "silent", "unavailable"].map((model, at) => ({
    name: `SmolLM2 instead of an upstream ${model}`,
    needs,
    async run({ lab }) {
      // From here on the real model stands in, and goes on with what breaks off.
      if (at === 0) await lab.reload({ fallback: "ar", onCut: "continue" });
      const turn = await measured(lab, QUESTION, { user: CONVERSATION, model });
      const cause = tookOver(turn, model, "ar");
      assert.match(turn.text, ANSWER);
      return { saw: turn.text, timing: { ...turn.timing, fault: model, by: "SmolLM2" }, recorded: `${model}: ${cause}; ar answered` };
    },
  })),
  {
    name: "SmolLM2 goes on with an answer that was cut",
    needs,
    async run({ lab }) {
      const turn = await measured(lab, QUESTION, { user: CONVERSATION, model: "cutting" });
      tookOver(turn, "cutting", "ar");
      assert.ok(turn.text.startsWith(CUT), turn.text);
      assert.match(turn.text, ANSWER);
      return { saw: turn.text, timing: { ...turn.timing, fault: "cut", by: "SmolLM2 goes on" }, recorded: "one request: cut, continued by ar" };
    },
  },
];
