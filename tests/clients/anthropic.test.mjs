// The official Anthropic SDK against the real gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic, { APIError, BadRequestError, NotFoundError } from "@anthropic-ai/sdk";

import { ANSWER, LIGHTS, startUpstream, startWeir, until, withoutFallback } from "./gateway.mjs";

const options = { timeout: 120_000 };
const connect = (base) => new Anthropic({ baseURL: base, apiKey: "not-checked", maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const SORT = "Sort these words: lemon, apple, mirror";
const lights = { name: LIGHTS.name, description: LIGHTS.description, input_schema: LIGHTS.parameters };
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");

test("anthropic: models are listed", options, async (t) => {
  const client = connect(await startWeir(t));
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  for (const id of ["auto", "diffusion", "ar"]) assert.ok(ids.includes(id), ids.join());
  assert.equal((await client.models.retrieve("auto")).type, "model");
});

test("anthropic: a stream gathers to the same message as the plain answer", options, async (t) => {
  const client = connect(await startWeir(t));
  for (const model of ["auto", "diffusion", "ar"]) {
    const ask = { model, messages: user(SORT), system: "Be brief.", max_tokens: 48, temperature: 0 };
    const plain = await client.messages.create(ask);
    assert.ok(["end_turn", "max_tokens"].includes(plain.stop_reason), plain.stop_reason);
    assert.match(plain._request_id, /^req-/);
    assert.ok(plain.usage.input_tokens + plain.usage.cache_read_input_tokens > 0 && plain.usage.output_tokens > 0);
    let text = "";
    const stream = client.messages.stream(ask).on("text", (delta) => (text += delta));
    const gathered = await stream.finalMessage();
    assert.equal(textOf(gathered), textOf(plain));
    assert.equal(text, textOf(plain));
    assert.equal(gathered.stop_reason, plain.stop_reason);
    assert.equal(gathered.usage.output_tokens, plain.usage.output_tokens);
    assert.equal(gathered.model, plain.model);
  }
});

test("anthropic: a tool call, plain, streamed and answered", options, async (t) => {
  const client = connect(await startWeir(t));
  const ask = { model: "auto", messages: user(LIGHTS.prompt), tools: [lights], max_tokens: 96, temperature: 0 };
  const plain = await client.messages.create(ask);
  const streamed = await client.messages.stream(ask).finalMessage();
  for (const answer of [plain, streamed]) {
    assert.equal(answer.stop_reason, "tool_use");
    const calls = answer.content.filter((block) => block.type === "tool_use");
    assert.equal(calls.length, 1);
    assert.equal(calls[0].name, LIGHTS.name);
    const { room, on, ...rest } = calls[0].input;
    assert.deepEqual([typeof room, typeof on, rest], ["string", "boolean", {}]);
  }
  const [call] = plain.content.filter((block) => block.type === "tool_use");
  const messages = [
    ...ask.messages,
    { role: "assistant", content: plain.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "done" }] },
  ];
  const after = await client.messages.create({ ...ask, model: "ar", messages });
  assert.ok(after.stop_reason);
});

test("anthropic: tokens are counted as the answer counts them", options, async (t) => {
  const client = connect(await startWeir(t));
  const ask = { model: "diffusion", messages: user(SORT), system: [{ type: "text", text: "Be brief." }] };
  const { input_tokens } = await client.messages.countTokens(ask);
  const { usage } = await client.messages.create({ ...ask, max_tokens: 8 });
  assert.equal(input_tokens, usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens);
});

test("anthropic: structured output fits its schema", options, async (t) => {
  const client = connect(await startWeir(t));
  const schema = { type: "object", properties: { a: { type: "boolean" } }, required: ["a"], additionalProperties: false };
  const output_config = { format: { type: "json_schema", schema } };
  const answer = await client.messages.create({ model: "ar", messages: user("yes?"), max_tokens: 64, output_config });
  assert.equal(typeof JSON.parse(textOf(answer)).a, "boolean");
});

test("anthropic: an upstream of another dialect answers", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("fine", "fine") + upstream.backend("tools", "tools")));
  assert.equal(textOf(await client.messages.create({ model: "fine", messages: user("hi"), max_tokens: 8 })), ANSWER);
  const called = await client.messages
    .stream({ model: "tools", messages: user(LIGHTS.prompt), tools: [lights], max_tokens: 8 })
    .finalMessage();
  assert.equal(called.stop_reason, "tool_use");
  assert.deepEqual(called.content.find((block) => block.type === "tool_use").input, { room: "kitchen", on: false });
});

test("anthropic: an error before the first byte is the SDK's typed error", options, async (t) => {
  const upstream = await startUpstream(t);
  const config = (await withoutFallback(t)) + upstream.backend("locked", "401") + upstream.backend("busy", "429");
  const client = connect(await startWeir(t, config));
  const ask = { messages: user("hi"), max_tokens: 8 };
  await assert.rejects(client.messages.create({ ...ask, model: "nobody" }), (error) => {
    assert.ok(error instanceof NotFoundError);
    return error.error.error.type === "not_found_error";
  });
  await assert.rejects(client.messages.create({ ...ask, model: "ar", messages: [] }), BadRequestError);
  for (const [model, status] of [["locked", 502], ["busy", 429]]) {
    await assert.rejects(client.messages.create({ ...ask, model }), { status });
    await assert.rejects(client.messages.stream({ ...ask, model }).finalMessage(), { status });
  }
});

test("anthropic: an upstream cut after some bytes is an error in the stream, never an end", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("cut", "cut-700")));
  const types = [];
  await assert.rejects(async () => {
    const stream = await client.messages.create({ model: "cut", messages: user("hi"), max_tokens: 8, stream: true });
    for await (const event of stream) types.push(event.type);
  }, APIError);
  assert.ok(types.includes("content_block_delta"), types.join());
  assert.ok(!types.includes("message_delta") && !types.includes("message_stop"), types.join());
});

test("anthropic: leaving a stream lets the upstream go", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("slow", "hang")));
  const stream = await client.messages.create({ model: "slow", messages: user("hi"), max_tokens: 8, stream: true });
  for await (const event of stream) {
    if (event.type === "content_block_delta") break;
  }
  const ended = await until(async () => (await upstream.seen()).find((seen) => seen.ending !== "open"));
  assert.equal(ended.ending, "closed_by_caller");
});
