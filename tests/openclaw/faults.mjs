// An upstream that fails, once in each way, and who answers instead: the built-in diffusion engine. Measures until when the
// user has the answer, in a conversation that is under way and at a gateway that is warm. Comes late: OpenClaw remembers
// a bad provider for a while.
import assert from "node:assert/strict";

import { CUT } from "./upstream.mjs";
import { FAILING } from "./weir_config.mjs";

/** A bound for a machine that builds something beside it. The table says what it was. */
const FAILOVER_MS = 20_000;
const QUESTION = "Sort these words: lemon, fig, apple";
const CONVERSATION = "faults";

/** The same turn without a fault: what the engine says, and what a warm turn takes. */
export async function undisturbed(lab) {
  if (!lab.undisturbed) {
    await lab.chat(QUESTION, { user: CONVERSATION });
    lab.undisturbed = await measured(lab, QUESTION, { user: CONVERSATION, model: "auto" });
  }
  return lab.undisturbed;
}

/** One turn: what the user got, how often OpenClaw asked, what Weir wrote down of the last time, and the times. */
export async function measured(lab, question, { user, model }) {
  const from = lab.tapped.length;
  const { text, ms, status } = await lab.chat(question, { user, model });
  assert.equal(status, 200, text);
  const calls = lab.calls(from).filter(({ body }) => body.model === model);
  const lines = await Promise.all(calls.map((call) => lab.lineOf(call)));
  const weirMs = lines.reduce((sum, { body_ms: body, total_ms: total }) => sum + body + total, 0);
  return { text, calls: calls.length, lines, timing: { turn: ms, weir: weirMs } };
}

/** Asserts that the first backend failed and `backend` answered within one request of OpenClaw's. */
export function tookOver({ calls, lines, text }, model, backend) {
  assert.equal(calls, 1, "OpenClaw asked once");
  const [{ attempts, backend: answered, outcome }] = lines;
  const tried = JSON.stringify(attempts);
  assert.deepEqual([attempts[0].backend, attempts.at(-1).backend, answered, outcome], [model, backend, backend, "finished"], tried);
  assert.notEqual(attempts[0].outcome, "finished", tried);
  assert.match(text, /\p{L}{2}/u);
  return attempts[0].outcome;
}

export const faults = [
  {
    name: "the same turn without a fault",
    async run({ lab }) {
      const { text, timing, lines } = await undisturbed(lab);
      assert.equal(lines[0].backend, "diffusion");
      return { saw: text, timing: { ...timing, fault: "none", by: "nano" }, recorded: "diffusion, condensed" };
    },
  },
  ...Object.keys(FAILING).map((model) => ({
    name: `AR upstream ${model}`,
    async run({ lab }) {
      const { text: expected } = await undisturbed(lab);
      const turn = await measured(lab, QUESTION, { user: CONVERSATION, model });
      const cause = tookOver(turn, model, "diffusion");
      assert.equal(turn.text, expected, "what the engine says without a fault");
      assert.ok(turn.timing.weir < FAILOVER_MS, `${turn.timing.weir} ms`);
      return { saw: turn.text, timing: { ...turn.timing, fault: model, by: "nano" }, recorded: `${model}: ${cause}; diffusion answered` };
    },
  })),
  {
    name: "AR upstream cut after some bytes",
    async run({ lab }) {
      await undisturbed(lab);
      const { text, calls, timing } = await measured(lab, "hi", { user: CONVERSATION, model: "cutting" });
      assert.match(text, /This is answer \d+\.$/u);
      assert.ok(!text.includes(CUT), "half an answer is no answer");
      assert.equal(calls, 2, "the cut showed as an error, so OpenClaw asked again");
      return { saw: text, timing: { ...timing, fault: "cut", by: "OpenClaw asks again" }, recorded: "1 cut, 1 whole" };
    },
  },
];
