// The official OpenAI SDK against the real gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { APIError, NotFoundError } from "openai";

import { ANSWER, LIGHTS, startUpstream, startWeir, until, withoutFallback } from "./gateway.mjs";

const options = { timeout: 120_000 };
const connect = (base) => new OpenAI({ baseURL: `${base}/v1`, apiKey: "not-checked", maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const SORT = "Sort these words: lemon, apple, mirror";
const lights = { type: "function", function: { name: LIGHTS.name, description: LIGHTS.description, parameters: LIGHTS.parameters } };

test("openai: models are listed", options, async (t) => {
  const client = connect(await startWeir(t));
  const ids = (await client.models.list()).data.map((model) => model.id);
  for (const id of ["auto", "diffusion", "ar"]) assert.ok(ids.includes(id), ids.join());
  assert.equal((await client.models.retrieve("auto")).id, "auto");
});

test("openai: plain answers with usage, from every route", options, async (t) => {
  const client = connect(await startWeir(t));
  for (const model of ["auto", "diffusion", "ar"]) {
    const answer = await client.chat.completions.create({ model, messages: user(SORT), max_tokens: 48 });
    assert.equal(typeof answer.choices[0].message.content, "string");
    assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.notEqual(answer.model, "auto");
  }
});

test("openai: a stream gives the same text as the plain answer, and usage when asked", options, async (t) => {
  const client = connect(await startWeir(t));
  for (const model of ["diffusion", "ar"]) {
    const ask = { model, messages: user(SORT), max_tokens: 48, temperature: 0 };
    const plain = await client.chat.completions.create(ask);
    const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
    let text = "";
    let usage;
    const reasons = [];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, plain.choices[0].message.content);
    assert.equal(reasons.length, 1);
    assert.deepEqual(usage, plain.usage);
  }
});

test("openai: a tool call, plain and streamed through the SDK's own accumulator", options, async (t) => {
  const client = connect(await startWeir(t));
  const ask = { model: "auto", messages: user(LIGHTS.prompt), tools: [lights], temperature: 0 };
  const plain = await client.chat.completions.create(ask);
  const streamed = await client.chat.completions.stream(ask).finalChatCompletion();
  for (const answer of [plain, streamed]) {
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    const [call, ...others] = answer.choices[0].message.tool_calls;
    assert.equal(others.length, 0);
    assert.ok(call.id);
    assert.equal(call.function.name, LIGHTS.name);
    const { room, on, ...rest } = JSON.parse(call.function.arguments);
    assert.deepEqual([typeof room, typeof on, rest], ["string", "boolean", {}]);
  }
});

test("openai: an error before the first byte is the SDK's typed error", options, async (t) => {
  const upstream = await startUpstream(t);
  const config = (await withoutFallback(t)) + upstream.backend("broken", "500") + upstream.backend("locked", "401");
  const client = connect(await startWeir(t, config));
  await assert.rejects(client.chat.completions.create({ model: "nobody", messages: user("hi") }), (error) => {
    assert.ok(error instanceof NotFoundError);
    return error.code === "model_not_found" && error.param === "model";
  });
  await assert.rejects(client.chat.completions.create({ model: "ar", messages: [] }), { status: 400, param: "messages" });
  for (const [model, status] of [["broken", 502], ["locked", 502]]) {
    for (const stream of [true, false]) {
      await assert.rejects(client.chat.completions.create({ model, messages: user("hi"), stream }), { status });
    }
  }
});

test("openai: before the first byte another backend takes over", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("broken", "500")));
  const answer = await client.chat.completions.create({ model: "auto", messages: user("Tell me a story."), max_tokens: 8 });
  assert.ok(answer.choices[0].finish_reason);
  assert.equal((await upstream.seen()).length, 1);
});

test("openai: an upstream cut after some bytes is an error in the stream, never an end", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("cut", "cut-700")));
  const stream = await client.chat.completions.create({ model: "cut", messages: user("hi"), stream: true });
  let text = "";
  const reasons = [];
  await assert.rejects(async () => {
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
    }
  }, APIError);
  assert.ok(text && ANSWER.startsWith(text), text);
  assert.deepEqual(reasons, []);
});

test("openai: leaving a stream lets the upstream go", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("slow", "hang")));
  const stream = await client.chat.completions.create({ model: "slow", messages: user("hi"), stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) break;
  }
  stream.controller.abort();
  const ended = await until(async () => (await upstream.seen()).find((seen) => seen.ending !== "open"));
  assert.equal(ended.ending, "closed_by_caller");
});
