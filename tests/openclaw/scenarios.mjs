// What is tried with each set-up, in order. Each asserts on what the user saw and on what Weir recorded, and gives both
// back for the table. What follows them: faults.mjs, real_model.mjs, restarts.mjs, in this order.
import assert from "node:assert/strict";

import { told, withPlugin } from "./hints.mjs";
import { until } from "./lab.mjs";
import { textOf } from "./upstream.mjs";

const asks = (call) => (call.body.messages ?? []).map(textOf).join("\n");
/** What stands after the last answer: the question itself and OpenClaw's notes on it. */
const lastAsked = ({ body: { messages = [] } }) => {
  const answered = messages.findLastIndex(({ role }) => role === "assistant" || role === "system");
  return messages.slice(answered + 1).map(textOf).join("\n");
};

/** Before the gateway runs: OpenClaw keeps its state for one process at a time. */
export const alone = [
  {
    name: "infer model run",
    async run({ lab }) {
      const { code, out, all } = await lab.cli("infer", "model", "run", "--local", "--model", "weir/auto", "--prompt", "ping", "--json");
      assert.equal(code, 0, all);
      const [{ text }] = JSON.parse(out).outputs;
      assert.equal(text, "This is answer 1.");
      assert.equal(lab.calls().at(-1).answer["x-weir-backend"], "script");
      return { saw: text, recorded: "backend script" };
    },
  },
  {
    name: "agent exec",
    async run({ lab }) {
      const { code, all } = await lab.cli("agent", "exec", "--json", "--timeout", "120", "Say hello");
      assert.equal(code, 0, all);
      assert.match(all, /This is answer 1\./);
      const call = lab.calls().findLast(({ body }) => body.model === "auto");
      return { saw: "This is answer 1.", recorded: `${call.bytes} bytes, backend ${call.answer["x-weir-backend"]}` };
    },
  },
];

export const served = [
  {
    name: "chat turn, plain",
    async run({ lab, setup }) {
      const from = lab.tapped.length;
      const { text, status } = await lab.chat("hi", { user: "ann" });
      assert.deepEqual([status, text], [200, "This is answer 1."]);
      const call = lab.calls(from).find(({ body }) => body.model === "auto");
      assert.equal(call.answer["x-weir-backend"], "script");
      assert.equal(call.headers["x-weir-client"], "openclaw");
      if (withPlugin(setup)) assert.equal(call.answer["x-request-id"], call.headers["x-request-id"], "one id on both sides");
      return { saw: text, recorded: await told({ lab, setup }, call, "user") };
    },
  },
  {
    name: "activity recap",
    async run({ lab, setup }) {
      const from = lab.tapped.length;
      // A session of its own: OpenClaw makes the first recap of each at once, the next not before 90 s.
      await lab.chat("what did we do so far?", { user: "recap" });
      const call = await until("a recap", () => lab.calls(from).find(({ body }) => body.model === "diffusion"));
      const { attempts, outcome } = await lab.lineOf(call);
      // The embedded model was never shown so long a prompt: what it says is nonsense, or nothing, and then the next
      // backend of the plan makes the recap.
      assert.deepEqual([attempts[0].backend, outcome], ["diffusion", "finished"]);
      assert.ok(["finished", "empty_answer"].includes(attempts[0].outcome), JSON.stringify(attempts));
      assert.equal(call.body.tools, undefined);
      return { saw: "(its own recap)", recorded: `diffusion engine (${attempts[0].outcome}), ${call.bytes} bytes, no tools; ${await told({ lab, setup }, call, "utility")}` };
    },
  },
  {
    name: "chat turn, streamed",
    async run({ lab }) {
      const { text, done, pieces } = await lab.chat("hi again", { user: "bob", stream: true });
      assert.ok(done, "ends with [DONE]");
      assert.equal(text, "This is answer 1.");
      return { saw: `${text} [DONE]`, recorded: `${pieces} events` };
    },
  },
  {
    name: "tool loop",
    async run({ lab }) {
      const from = lab.tapped.length;
      const { text } = await lab.chat("Please list the folder.", { user: "tool" });
      assert.match(text, /^The tool said /);
      const calls = lab.calls(from).filter(({ body }) => body.model === "auto");
      const last = calls.find(({ body }) => body.messages.some(({ role }) => role === "tool"));
      assert.ok(last, "the tool's result came back");
      return { saw: text.slice(0, 40), recorded: `${calls.length} calls, the last with a tool result` };
    },
  },
  {
    name: "heartbeat",
    async run({ lab, setup }) {
      const from = lab.tapped.length;
      const { code, all } = await lab.cli("system", "event", "--text", "look around", "--mode", "now");
      assert.equal(code, 0, all);
      const isHeartbeat = (call) => /heartbeat monitor|look around/u.test(lastAsked(call)) && call.body.model === "auto";
      const call = await until("a heartbeat", () => lab.calls(from).find(isHeartbeat));
      return { saw: "ok", recorded: `${call.bytes} bytes; ${await told({ lab, setup }, call, "heartbeat")}` };
    },
  },
  {
    name: "cron",
    async run({ lab, setup }) {
      const from = lab.tapped.length;
      const added = await lab.cli("cron", "add", "--name", "probe", "--at", "40m", "--session", "isolated", "--message", "say pong", "--json");
      const { id } = JSON.parse(added.out.slice(added.out.indexOf("{")));
      const ran = await lab.cli("cron", "run", id);
      assert.equal(ran.code, 0, ran.all);
      const call = await until("a cron call", () => lab.calls(from).find((call) => asks(call).includes(`[cron:${id}`) && call.body.model === "auto"));
      return { saw: "enqueued", recorded: `${call.bytes} bytes; ${await told({ lab, setup }, call, "cron", { job: id })}` };
    },
  },
  {
    name: "subagent",
    async run({ lab, setup }) {
      const from = lab.tapped.length;
      await lab.chat("Please start a helper.", { user: "boss" });
      const call = await until("a subagent's call", () => lab.calls(from).find((call) => asks(call).includes("[Subagent Context]")));
      return { saw: "the helper answered", recorded: `${call.bytes} bytes; ${await told({ lab, setup }, call, "subagent")}` };
    },
  },
  {
    name: "turn two: same engine, warm prefix",
    async run({ lab }) {
      const turn = async (text) => {
        const from = lab.tapped.length;
        const { status, text: said } = await lab.chat(text, { user: "pat" });
        assert.equal(status, 200, said);
        // A helper's announcement of before may come in between.
        const call = lab.calls(from).find((call) => call.body.model === "auto" && lastAsked(call).includes(text));
        const line = await lab.lineOf(call);
        const why = JSON.stringify({ rule: line.plan.rule, attempts: line.attempts, features: line.plan.features });
        assert.equal(line.backend, "diffusion", why);
        const cached = line.usage.cached_tokens;
        return { by: call.answer["x-weir-backend"], bytes: call.bytes, cached, said };
      };
      const first = await turn("Sort these words: lemon, apple, mirror");
      const second = await turn("Sort these words: lemon, fig, apple");
      assert.deepEqual([first.by, second.by], ["diffusion", "diffusion"]);
      assert.ok(second.cached >= 32, `${second.cached} tokens were known`);
      return { saw: second.said, recorded: `diffusion twice, ${second.bytes} bytes condensed; ${second.cached} tokens from the cache` };
    },
  },
  {
    name: "client leaves: the engine stops",
    async run({ lab }) {
      const cancelled = () => lab.metric("weir_requests_total", { backend: "diffusion", outcome: "cancelled" });
      const before = await cancelled();
      const from = lab.tapped.length;
      const leaving = new AbortController();
      // A new agent text: nothing of it is in the cache, so its reading takes a while.
      const turn = lab.chat(`Sort these words: ${"lemon apple pear ".repeat(2_000)}`, { user: "gone", model: "diffusion", stream: true, signal: leaving.signal }).catch(() => {});
      await until("it began", () => lab.calls(from).some(({ bytes }) => bytes > 20_000));
      leaving.abort();
      await turn;
      await until("the engine stopped", async () => (await cancelled()) > before, 30_000);
      await until("nothing runs", async () => (await lab.metric("weir_in_flight", { backend: "diffusion" })) === 0, 30_000);
      return { saw: "(left)", recorded: "outcome cancelled, nothing in flight" };
    },
  },
  {
    name: "client leaves: the upstream is told",
    async run({ lab }) {
      const leaving = new AbortController();
      const from = lab.scripted.seen.length;
      const turn = lab.chat("Please speak for ever.", { user: "bored", stream: true, signal: leaving.signal }).catch(() => {});
      const record = await until("it speaks", () => lab.scripted.seen.slice(from).find(({ body }) => body.tools && lastAsked({ body }).includes("speak for ever")));
      leaving.abort();
      await turn;
      await until("the upstream sees it", () => record.ending === "closed", 30_000);
      return { saw: "(left)", recorded: "upstream connection closed" };
    },
  },
];
