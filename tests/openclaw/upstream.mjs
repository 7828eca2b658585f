// The scripted AR upstream: an OpenAI chat server that answers by what the conversation asks for, and keeps what it was
// asked. It stands in for a real AR model: what it says is known, so that what the user saw can be checked.
import { createServer } from "node:http";

const CONTEXT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";

/** What an answer that breaks off says. */
export const CUT = "A week has";

/** Text of a message, whatever its shape. */
export const textOf = ({ content }) => (typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("\n"));

/** Messages without OpenClaw's own notes. */
const spoken = (messages) => messages.filter((message) => message.role !== "system" && message.role !== "developer" && !textOf(message).startsWith(CONTEXT));

function reply({ messages }) {
  const said = spoken(messages);
  const last = said.at(-1);
  const users = said.filter(({ role }) => role === "user");
  const asked = textOf(users.at(-1) ?? {});
  if (last?.role === "tool") return { text: `The tool said ${textOf(last).slice(0, 200)}` };
  if (asked.includes("[Subagent Context]")) return { text: "pong from the helper" };
  if (asked.includes("list the folder")) return { call: { name: "ls", arguments: '{"path":"."}' } };
  if (asked.includes("start a helper")) {
    return { call: { name: "tool_call", arguments: JSON.stringify({ id: "sessions_spawn", args: { task: "say pong", context: "isolated" } }) } };
  }
  if (asked.includes("speak for ever")) return { endless: true };
  return { text: `This is answer ${users.length}.` };
}

/** Starts it; `seen` grows with each request: `{body, ending}`. At `/cut-first` every other answer is cut, from the first on; at `/cut-all` all are. */
export async function startScripted() {
  const seen = [];
  let cuts = 0;
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const piece of request) text += piece;
    if (request.method !== "POST") return void response.end("{}");
    const body = JSON.parse(text);
    const record = { path: request.url, body, ending: "open" };
    seen.push(record);
    response.on("close", () => (record.ending = response.writableFinished ? "whole" : "closed"));
    const cut = request.url.startsWith("/cut-all") || (request.url.startsWith("/cut-first") && cuts++ % 2 === 0);
    await answer(response, body, cut ? { cut: true, text: CUT } : reply(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${server.address().port}`;
  return { base, seen, stop: () => (server.closeAllConnections(), server.close()) };
}

async function answer(response, { stream }, { text, call, endless, cut }) {
  const head = { id: "chatcmpl-s", created: 1, model: "scripted-ar" };
  // About what it is estimated at before: nobody may be let in for less than it will cost.
  const usage = { prompt_tokens: 8000, completion_tokens: 7, total_tokens: 8007 };
  const calls = call && [{ index: 0, id: `call_${Date.now()}`, type: "function", function: call }];
  const finish = call ? "tool_calls" : "stop";
  if (!stream) {
    const message = { role: "assistant", content: text ?? null, ...(calls ? { tool_calls: calls } : {}) };
    response.writeHead(200, { "content-type": "application/json" });
    return void response.end(JSON.stringify({ ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason: finish }], usage }));
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (delta, more = {}) => {
    const chunk = { ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason: null, ...more }] };
    return response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  };
  send({ role: "assistant" });
  while (endless && !response.destroyed) {
    send({ content: "and on " });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  if (calls) send({ tool_calls: calls });
  for (const word of (text ?? "").split(/(?<= )/u)) if (word) send({ content: word });
  if (cut) {
    // So that what was said has left before the end of the connection does.
    await new Promise((resolve) => setTimeout(resolve, 50));
    return void response.destroy();
  }
  send({}, { finish_reason: finish });
  response.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [], usage })}\n\n`);
  response.end("data: [DONE]\n\n");
}
