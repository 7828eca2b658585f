// What is tried with each set-up, in order. Each asserts on what the user saw and on what Weir recorded, and gives both
// back for the table. Error cases come late: OpenClaw remembers a bad provider for a while.
import assert from "node:assert/strict";

import { FAILING, freePort, until } from "./lab.mjs";
import { textOf } from "./upstream.mjs";

/** Weir's own part of a turn whose first upstream fails, on a busy machine. OpenClaw alone takes 86 to 198 s. */
const FAILOVER_MS = 20_000;

const withPlugin = (setup) => setup.name === "plugin";
const hints = (call) => Object.fromEntries(Object.entries(call.headers).filter(([name]) => name.startsWith("x-weir-")));
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
      if (withPlugin(setup)) {
        const sent = hints(call);
        assert.equal(sent["x-weir-trigger"], "user");
        assert.equal(sent["x-weir-agent"], "main");
        assert.equal(sent["x-weir-tenant-tag"], "cell-1");
        assert.equal(sent["x-weir-attempt"], "1");
        for (const name of ["session", "run", "turn"]) assert.ok(sent[`x-weir-${name}`], name);
        assert.equal(call.answer["x-request-id"], call.headers["x-request-id"], "one id on both sides");
      }
      return { saw: text, recorded: withPlugin(setup) ? "trigger user, all hints" : "route by body" };
    },
  },
  {
    name: "activity recap",
    async run({ lab, setup }) {
      const before = await lab.metric("weir_requests_total", { backend: "diffusion", outcome: "finished" });
      const from = lab.tapped.length;
      // A session of its own: OpenClaw makes the first recap of each at once, the next not before 90 s.
      await lab.chat("what did we do so far?", { user: "recap" });
      const call = await until("a recap", () => lab.calls(from).find(({ body }) => body.model === "diffusion"));
      if (withPlugin(setup)) assert.equal(hints(call)["x-weir-trigger"], "utility");
      await until("the engine answered", async () => (await lab.metric("weir_requests_total", { backend: "diffusion", outcome: "finished" })) > before);
      assert.equal(call.answer["x-weir-backend"], "diffusion");
      assert.equal(call.body.tools, undefined);
      return { saw: "(its own recap)", recorded: `diffusion engine, ${call.bytes} bytes, no tools` };
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
      if (withPlugin(setup)) assert.equal(hints(call)["x-weir-trigger"], "heartbeat");
      return { saw: "ok", recorded: `${call.bytes} bytes${withPlugin(setup) ? ", trigger heartbeat" : ""}` };
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
      if (withPlugin(setup)) assert.deepEqual([hints(call)["x-weir-trigger"], hints(call)["x-weir-job"]], ["cron", id]);
      return { saw: "enqueued", recorded: `${call.bytes} bytes${withPlugin(setup) ? ", trigger cron, its job" : ""}` };
    },
  },
  {
    name: "subagent",
    async run({ lab, setup }) {
      const from = lab.tapped.length;
      await lab.chat("Please start a helper.", { user: "boss" });
      const call = await until("a subagent's call", () => lab.calls(from).find((call) => asks(call).includes("[Subagent Context]")));
      if (withPlugin(setup)) assert.equal(hints(call)["x-weir-trigger"], "subagent");
      return { saw: "the helper answered", recorded: `${call.bytes} bytes${withPlugin(setup) ? ", trigger subagent" : ""}` };
    },
  },
  {
    name: "turn two: same engine, warm prefix",
    async run({ lab }) {
      const turn = async (text) => {
        const from = lab.tapped.length;
        const { status, text: said } = await lab.chat(text, { user: "pat" });
        assert.equal(status, 200, said);
        const call = lab.calls(from).find(({ body, bytes }) => body.model === "auto" && bytes > 10_000);
        const line = await until("its line", async () => (await lab.requestLog()).findLast(({ id }) => id === call.answer["x-request-id"]));
        const why = JSON.stringify({ rule: line.plan.rule, attempts: line.attempts, features: line.plan.features });
        assert.equal(line.backend, "diffusion", why);
        const cached = line.usage.cached_tokens;
        return { by: call.answer["x-weir-backend"], bytes: call.bytes, cached, said };
      };
      const first = await turn("Sort these words: pear, fig, date");
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
  ...Object.keys(FAILING).map((model) => ({
    name: `AR upstream ${model}`,
    async run({ lab }) {
      const before = await lab.metric("weir_fallbacks_total", { from: model, to: "script" });
      const from = lab.tapped.length;
      const { text, ms, status } = await lab.chat("hi", { user: `f-${model}`, model });
      assert.deepEqual([status, text], [200, "This is answer 1."]);
      const calls = lab.calls(from).filter(({ body }) => body.model === model);
      assert.equal(calls.length, 1, "OpenClaw asked once");
      assert.ok((await lab.metric("weir_fallbacks_total", { from: model, to: "script" })) > before, "Weir took over");
      assert.ok(calls[0].ms < FAILOVER_MS, `${calls[0].ms} ms`);
      return { saw: text, ms, recorded: `${model} → script, ${calls[0].ms} ms of it in Weir` };
    },
  })),
  {
    name: "AR upstream cut after some bytes",
    async run({ lab }) {
      const from = lab.tapped.length;
      const { text, ms, status } = await lab.chat("hi", { user: "f-cut", model: "cutting" });
      assert.equal(status, 200);
      assert.equal(text.endsWith("This is answer 1."), true, text);
      assert.ok(!text.includes("never ends pro"), "half an answer is no answer");
      const calls = lab.calls(from).filter(({ body }) => body.model === "cutting");
      assert.equal(calls.length, 2, "the cut showed as an error, so OpenClaw asked again");
      return { saw: text, ms, recorded: "1 cut, 1 whole" };
    },
  },
  {
    name: "Weir reloads in mid-conversation",
    async run({ lab }) {
      const first = await lab.chat("hi", { user: "reload" });
      assert.equal(first.text, "This is answer 1.");
      const good = () => lab.metric("weir_config_reloads_total", { outcome: "applied" });
      const before = await good();
      await lab.writePolicy("the rule after the reload");
      const started = (lab.log ?? []).map((line) => /local service ready: pid=(\d+)/u.exec(line)?.[1]).findLast(Boolean);
      process.kill(lab.weirProcess?.pid ?? Number(started), "SIGHUP");
      await until("the reload", async () => (await good()) > before, 30_000);
      const from = lab.tapped.length;
      const second = await lab.chat("and now?", { user: "reload" });
      assert.equal(second.text, "This is answer 2.");
      const reason = lab.calls(from).find(({ body }) => body.model === "auto").answer["x-weir-reason"];
      assert.equal(reason, "the rule after the reload");
      return { saw: second.text, recorded: "reloaded, turn two by the new rules" };
    },
  },
  {
    name: "OpenClaw restarts in mid-conversation",
    async run({ lab, setup }) {
      const first = await lab.chat("hi", { user: "stay" });
      assert.equal(first.text, "This is answer 1.");
      await lab.stopOpenclaw();
      const port = await freePort();
      await setup.restartWith(lab, port);
      await lab.startOpenclaw();
      const second = await lab.chat("and now?", { user: "stay" });
      assert.equal(second.text, "This is answer 2.", "it remembers the first turn");
      if (!withPlugin(setup)) return { saw: second.text, recorded: "history kept, Weir started again on demand" };
      const found = await (await lab.page("/plugins/weir/status")).json();
      assert.ok(found.ready && found.service.managed && found.service.pid, JSON.stringify(found));
      assert.equal((await lab.page("/plugins/weir/status", { headers: { authorization: "Bearer wrong" } })).status, 401);
      await lab.stopOpenclaw();
      assert.throws(() => process.kill(found.service.pid, 0), { code: "ESRCH" }, "the service ends with OpenClaw");
      return { saw: second.text, recorded: `plugin's own Weir, pid ${found.service.pid}, ended with OpenClaw` };
    },
  },
];
