// The official OpenAI SDK's other two APIs against the real gateway: responses and completions.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { APIError, BadRequestError, NotFoundError } from "openai";

import { ANSWER, LIGHTS, startUpstream, startWeir, withoutFallback } from "./gateway.mjs";

const options = { timeout: 120_000 };
const connect = (base) => new OpenAI({ baseURL: `${base}/v1`, apiKey: "not-checked", maxRetries: 0 });
const SORT = "Sort these words: lemon, apple, mirror";
const lights = { type: "function", name: LIGHTS.name, description: LIGHTS.description, parameters: LIGHTS.parameters, strict: false };

test("responses: a stream gathers to the same response as the plain answer", options, async (t) => {
  const client = connect(await startWeir(t));
  for (const model of ["auto", "diffusion", "ar"]) {
    const ask = { model, input: SORT, instructions: "Be brief.", max_output_tokens: 48, temperature: 0 };
    const plain = await client.responses.create(ask);
    assert.ok(["completed", "incomplete"].includes(plain.status), plain.status);
    assert.equal(plain.instructions, "Be brief.");
    assert.equal(plain.usage.total_tokens, plain.usage.input_tokens + plain.usage.output_tokens);
    let text = "";
    const numbers = [];
    const stream = client.responses.stream(ask);
    for await (const event of stream) {
      numbers.push(event.sequence_number);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    const gathered = await stream.finalResponse();
    assert.equal(gathered.output_text, plain.output_text);
    assert.equal(text, plain.output_text);
    assert.equal(gathered.status, plain.status);
    assert.deepEqual(gathered.usage.output_tokens, plain.usage.output_tokens);
    assert.deepEqual(numbers, numbers.map((_, at) => at));
    const counted = await client.responses.inputTokens.count({ model, input: SORT, instructions: "Be brief." });
    assert.equal(counted.input_tokens, plain.usage.input_tokens);
  }
});

test("responses: a tool call, plain, streamed and answered", options, async (t) => {
  const client = connect(await startWeir(t));
  const ask = { model: "auto", input: LIGHTS.prompt, tools: [lights], temperature: 0 };
  const plain = await client.responses.create(ask);
  const streamed = await client.responses.stream(ask).finalResponse();
  for (const answer of [plain, streamed]) {
    const calls = answer.output.filter((item) => item.type === "function_call");
    assert.equal(calls.length, 1);
    assert.equal(calls[0].name, LIGHTS.name);
    const { room, on, ...rest } = JSON.parse(calls[0].arguments);
    assert.deepEqual([typeof room, typeof on, rest], ["string", "boolean", {}]);
  }
  const [call] = plain.output.filter((item) => item.type === "function_call");
  const input = [
    { role: "user", content: LIGHTS.prompt },
    ...plain.output,
    { type: "function_call_output", call_id: call.call_id, output: "done" },
  ];
  const after = await client.responses.create({ model: "ar", input, tools: [lights], max_output_tokens: 16 });
  assert.ok(["completed", "incomplete"].includes(after.status));
});

test("responses: structured output fits its schema", options, async (t) => {
  const client = connect(await startWeir(t));
  const schema = { type: "object", properties: { a: { type: "boolean" } }, required: ["a"], additionalProperties: false };
  const text = { format: { type: "json_schema", name: "x", schema, strict: true } };
  const answer = await client.responses.parse({ model: "ar", input: "yes?", max_output_tokens: 64, text });
  assert.equal(typeof answer.output_parsed.a, "boolean");
});

test("responses: an upstream of another dialect answers", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("fine", "fine")));
  assert.equal((await client.responses.create({ model: "fine", input: "hi" })).output_text, ANSWER);
  assert.equal((await client.responses.stream({ model: "fine", input: "hi" }).finalResponse()).output_text, ANSWER);
});

test("responses: errors are the SDK's typed errors, before and within the stream", options, async (t) => {
  const upstream = await startUpstream(t);
  const config = (await withoutFallback(t)) + upstream.backend("locked", "401") + upstream.backend("cut", "cut-700");
  const client = connect(await startWeir(t, config));
  await assert.rejects(client.responses.create({ model: "nobody", input: "hi" }), NotFoundError);
  await assert.rejects(client.responses.create({ model: "ar", input: "hi", previous_response_id: "resp_1" }), (error) => {
    assert.ok(error instanceof BadRequestError);
    return error.param === "previous_response_id";
  });
  await assert.rejects(client.responses.create({ model: "locked", input: "hi" }), { status: 502 });
  const types = [];
  await assert.rejects(async () => {
    const stream = await client.responses.create({ model: "cut", input: "hi", stream: true });
    for await (const event of stream) types.push(event.type);
  }, (error) => error instanceof APIError && error.code === "stream_cut");
  assert.ok(types.includes("response.output_text.delta") && !types.includes("response.completed"), types.join());
});

test("completions: a text is gone on with, plain and streamed, and a gap is filled", options, async (t) => {
  const upstream = await startUpstream(t);
  const client = connect(await startWeir(t, upstream.backend("fine", "fine")));
  for (const model of ["diffusion", "ar"]) {
    // The nano models know no bare text and would end at once.
    const ask = { model, prompt: "one, two, three,", max_tokens: 12, min_tokens: 4, temperature: 0 };
    const plain = await client.completions.create(ask);
    assert.ok(plain.choices[0].text);
    assert.ok(["stop", "length"].includes(plain.choices[0].finish_reason));
    let text = "";
    let usage;
    const stream = await client.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, plain.choices[0].text);
    assert.equal(usage.completion_tokens, plain.usage.completion_tokens);
    const { choices } = await client.completions.create({ ...ask, logprobs: 2 });
    const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0].logprobs;
    for (const list of [token_logprobs, top_logprobs, text_offset]) assert.equal(list.length, tokens.length);
    assert.ok((await client.completions.create({ ...ask, suffix: " five" })).choices[0].finish_reason);
  }
  const gap = await client.completions.create({ model: "fine", prompt: "one ", suffix: " three" });
  assert.equal(gap.choices[0].text, ANSWER);
  const seen = JSON.stringify((await upstream.seen())[0].body);
  assert.match(seen, /<before>one <\/before>/);
});
