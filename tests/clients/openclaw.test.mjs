// OpenClaw's own provider transport (its package, its code) against the real gateway. No retries there: each fault
// shows as what OpenClaw would see.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createLlmRuntime } from "@openclaw/ai";
import { registerBuiltInApiProviders } from "@openclaw/ai/providers";

import { ANSWER, LIGHTS, startUpstream, startWeir, until, withoutFallback } from "./gateway.mjs";

const options = { timeout: 120_000 };
const runtime = createLlmRuntime();
registerBuiltInApiProviders(runtime.registry);

const CHAT = "openai-completions";
const OTHERS = ["openai-responses", "anthropic-messages"];

const model = (base, id, api) => ({
  id,
  name: id,
  api,
  provider: "weir",
  baseUrl: api === "anthropic-messages" ? base : `${base}/v1`,
  reasoning: false,
  input: ["text"],
  cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
  contextWindow: 32_768,
  maxTokens: 64,
});
const context = (text, tools) => ({
  systemPrompt: "You are careful.",
  messages: [{ role: "user", content: text, timestamp: 1 }],
  tools,
});
const tools = [{ name: LIGHTS.name, description: LIGHTS.description, parameters: LIGHTS.parameters }];

/** Runs one request to its end: the events by type, the text, the last message. */
async function run(base, id, text, { tools, signal, onText, api = CHAT } = {}) {
  const stream = runtime.stream(model(base, id, api), context(text, tools), { apiKey: "k", maxTokens: 64, signal });
  const types = [];
  let said = "";
  for await (const event of stream) {
    types.push(event.type);
    if (event.type === "text_delta") {
      said += event.delta;
      onText?.();
    }
  }
  return { types, said, message: await stream.result() };
}

test("openclaw: text from every route, with usage and the answering model", options, async (t) => {
  const base = await startWeir(t);
  for (const id of ["auto", "diffusion", "ar"]) {
    const { types, message } = await run(base, id, "Sort these words: lemon, apple, mirror");
    assert.equal(types.at(-1), "done", JSON.stringify(message));
    assert.ok(["stop", "length"].includes(message.stopReason));
    assert.ok(message.usage.input > 0 && message.usage.output > 0, JSON.stringify(message.usage));
    assert.ok(message.responseModel && message.responseModel !== "auto", message.responseModel);
  }
});

test("openclaw: a tool call with parsed arguments", options, async (t) => {
  const base = await startWeir(t);
  const { types, message } = await run(base, "auto", LIGHTS.prompt, { tools });
  assert.equal(types.at(-1), "done", JSON.stringify(message));
  assert.equal(message.stopReason, "toolUse");
  const calls = message.content.filter((part) => part.type === "toolCall");
  assert.equal(calls.length, 1);
  assert.equal(calls[0].name, LIGHTS.name);
  const { room, on, ...rest } = calls[0].arguments;
  assert.deepEqual([typeof room, typeof on, rest], ["string", "boolean", {}]);
});

test("openclaw: text and tool calls of an upstream come through", options, async (t) => {
  const upstream = await startUpstream(t);
  const base = await startWeir(t, upstream.backend("fine", "fine") + upstream.backend("tools", "tools"));
  const text = await run(base, "fine", "hi");
  assert.equal(text.said, ANSWER);
  assert.equal(text.message.stopReason, "stop");
  const call = await run(base, "tools", LIGHTS.prompt, { tools });
  assert.equal(call.message.stopReason, "toolUse");
});

test("openclaw: an error before the first byte", options, async (t) => {
  const upstream = await startUpstream(t);
  const base = await startWeir(t, (await withoutFallback(t)) + upstream.backend("locked", "401"));
  const locked = await run(base, "locked", "hi");
  assert.equal(locked.types.at(-1), "error");
  assert.match(locked.message.errorMessage, /502/);
  assert.doesNotMatch(locked.message.errorMessage, /\b401\b.*\b401\b/, "an upstream's 401 would block the key");
  const unknown = await run(base, "nobody", "hi");
  assert.equal(unknown.types.at(-1), "error");
  assert.match(unknown.message.errorMessage, /404|nobody/);
});

test("openclaw: before the first byte another backend takes over unseen", options, async (t) => {
  const upstream = await startUpstream(t);
  const base = await startWeir(t, upstream.backend("broken", "503"));
  const { types } = await run(base, "auto", "Tell me a story.");
  assert.equal(types.at(-1), "done");
  assert.equal((await upstream.seen()).length, 1);
});

test("openclaw: an upstream cut after some bytes is an error, never a short answer", options, async (t) => {
  const upstream = await startUpstream(t);
  const base = await startWeir(t, upstream.backend("cut", "cut-700"));
  const { types, said, message } = await run(base, "cut", "hi");
  assert.equal(types.at(-1), "error");
  assert.equal(message.stopReason, "error");
  assert.ok(said && ANSWER.startsWith(said), said);
});

test("openclaw: an abort reaches the upstream", options, async (t) => {
  const upstream = await startUpstream(t);
  const base = await startWeir(t, upstream.backend("slow", "hang"));
  const leaving = new AbortController();
  const { types, message } = await run(base, "slow", "hi", { signal: leaving.signal, onText: () => leaving.abort() });
  assert.equal(types.at(-1), "error");
  assert.equal(message.stopReason, "aborted");
  const ended = await until(async () => (await upstream.seen()).find((seen) => seen.ending !== "open"));
  assert.equal(ended.ending, "closed_by_caller");
});

test("openclaw: its other two transports find the same gateway", options, async (t) => {
  const upstream = await startUpstream(t);
  const base = await startWeir(t, upstream.backend("fine", "fine") + upstream.backend("cut", "cut-700"));
  for (const api of OTHERS) {
    for (const id of ["auto", "diffusion", "ar"]) {
      const { types, message } = await run(base, id, "Sort these words: lemon, apple, mirror", { api });
      assert.equal(types.at(-1), "done", `${api} ${JSON.stringify(message)}`);
      assert.ok(message.usage.output > 0, `${api} ${JSON.stringify(message.usage)}`);
    }
    assert.equal((await run(base, "fine", "hi", { api })).said, ANSWER, api);
    const { message } = await run(base, "auto", LIGHTS.prompt, { tools, api });
    assert.equal(message.stopReason, "toolUse", `${api} ${JSON.stringify(message)}`);
    const calls = message.content.filter((part) => part.type === "toolCall");
    assert.deepEqual(calls.map((call) => call.name), [LIGHTS.name], api);
    assert.equal(typeof calls[0].arguments.room, "string");
    const cut = await run(base, "cut", "hi", { api });
    assert.equal(cut.types.at(-1), "error", `${api} ${JSON.stringify(cut.message)}`);
    assert.ok(cut.said && ANSWER.startsWith(cut.said), `${api} ${cut.said}`);
  }
});
