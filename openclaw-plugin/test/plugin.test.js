// The plugin as OpenClaw sees it, against a small HTTP server in Weir's place.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import plugin from "../index.js";
import { addCommands, examine } from "../src/commands.js";
import { settingsFrom } from "../src/settings.js";
import { Program, host } from "./host.js";

/** Answers as `pages` says: path → [status, body, headers]. */
async function serve(t, pages) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push({ path: request.url, headers: request.headers });
    const [status, body, headers] = pages[request.url] ?? [404, "{}"];
    response.writeHead(status, headers).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

const MODELS = JSON.stringify({ data: [{ id: "auto", context_window: 65_536 }, { id: "diffusion" }, { id: "ar" }] });
const GOOD = {
  "/readyz": [200, "ready\n"],
  "/v1/models": [200, MODELS],
  "/metrics": [200, 'weir_requests_total{backend="diffusion",outcome="finished"} 2\nweir_fallbacks_total{from="a"} 1\n'],
};

const register = (options) => {
  const made = host(options);
  plugin.register(made.api);
  return made.registered;
};

const call = async (provider, hook, ctx, options) => {
  let sent;
  const streamFn = (model) => ((sent = model), "stream");
  const stream = provider[hook]({ ...ctx, streamFn });
  assert.equal(await stream({ baseUrl: "http://127.0.0.1:8787/v1", headers: { own: "1" } }, {}, options), "stream");
  return sent.headers;
};

test("the catalog is what Weir lists, asked with the real key", async (t) => {
  const weir = await serve(t, GOOD);
  const { provider } = register({ config: { url: weir.url } });
  const resolveProviderApiKey = () => ({ apiKey: "WEIR_API_KEY", discoveryApiKey: "secret" });
  const found = await provider.catalog.run({ resolveProviderApiKey });
  assert.equal(found.provider.baseUrl, `${weir.url}/v1`);
  assert.equal(found.provider.apiKey, "WEIR_API_KEY");
  assert.equal(found.provider.models[0].contextWindow, 65_536);
  assert.equal(weir.asked[0].headers.authorization, "Bearer secret");
  assert.equal(await provider.catalog.run({ resolveProviderApiKey: () => ({}) }), null, "without a key: not configured");
});

test("while Weir is away the three names stay", async () => {
  const { provider } = register({ config: { url: "http://127.0.0.1:9" } });
  const found = await provider.catalog.run({ resolveProviderApiKey: () => ({ apiKey: "k" }) });
  assert.deepEqual(found.provider.models.map(({ id }) => id), ["auto", "diffusion", "ar"]);
  assert.equal(provider.resolveDynamicModel({ modelId: "gpu-model" }).id, "gpu-model");
});

test("hints of each kind of call, learnt from hooks that need no permission", async () => {
  const { provider, hooks } = register({ config: { tenant: "kitchen" } });
  assert.deepEqual([...hooks.keys()], ["model_call_started", "heartbeat_prompt_contribution"]);
  const ask = (runId, sessionKey, told) => {
    const ctx = { runId, sessionId: `s-${runId}`, sessionKey };
    const headers = call(provider, "wrapStreamFn", { agentId: "main" }, { sessionId: ctx.sessionId, requestId: `${runId}:model:1` });
    told?.(ctx);
    hooks.get("model_call_started")({ runId }, ctx); // as OpenClaw does: the telling comes a moment after the call
    return headers;
  };
  const trigger = async (...args) => (await ask(...args))["x-weir-trigger"];
  assert.equal(await trigger("r1", "agent:main:main"), "user");
  assert.equal(await trigger("r2", "agent:main:main", (ctx) => hooks.get("heartbeat_prompt_contribution")({}, ctx)), "heartbeat");
  assert.equal(await trigger("r3", "agent:main:subagent:x"), "subagent");
  const cron = await ask("r4", "agent:main:cron:j9");
  assert.deepEqual([cron["x-weir-trigger"], cron["x-weir-job"], cron["x-weir-run"]], ["cron", "j9", "r4"]);
  assert.deepEqual([cron.own, cron["x-weir-tenant-tag"], cron["x-request-id"]], ["1", "kitchen", "r4:model:1"]);
  const errand = await call(provider, "wrapSimpleCompletionStreamFn", {}, { maxTokens: 240 });
  assert.equal(errand["x-weir-trigger"], "utility");
  assert.deepEqual(provider.resolveTransportTurnState({ turnId: "t", attempt: 1 }).headers, { "x-weir-turn": "t", "x-weir-attempt": "1" });
});

test("no hint leaves for another address, and none when they are off", async () => {
  const { provider } = register({ config: { url: "http://127.0.0.1:8000" } });
  assert.deepEqual(await call(provider, "wrapStreamFn", { agentId: "main" }, {}), { own: "1" });
  const off = register({ config: { hints: false } }).provider;
  assert.equal(off.wrapStreamFn({ streamFn() {} }), undefined);
  assert.equal(off.resolveTransportTurnState({}), undefined);
});

test("hooks that see conversations are asked for only with the permission", () => {
  const lean = { triggers: ["user"] };
  const without = register({ config: { lean } });
  assert.ok(!without.hooks.has("before_prompt_build"));
  assert.match(without.warnings[0], /allowConversationAccess/);
  const openclaw = { plugins: { entries: { weir: { hooks: { allowConversationAccess: true } } } } };
  const withIt = register({ config: { lean }, openclaw });
  const lent = withIt.hooks.get("before_prompt_build")({}, { modelProviderId: "weir", trigger: "user" });
  assert.deepEqual(lent.toolsAllow, []);
  assert.ok(!register({ openclaw }).hooks.has("before_prompt_build"), "nothing configured, nothing asked for");
});

test("the status route says how Weir stands, and never its key", async (t) => {
  const weir = await serve(t, GOOD);
  process.env.WEIR_API_KEY = "top-secret";
  t.after(() => delete process.env.WEIR_API_KEY);
  const { routes } = register({ config: { url: weir.url } });
  assert.equal(routes[0].auth, "gateway");
  const response = { setHeader() {}, end(text) { this.text = text; } };
  await routes[0].handler({}, response);
  const found = JSON.parse(response.text);
  assert.equal(response.statusCode, 200);
  assert.deepEqual([found.ready, found.requests, found.fallbacks], [true, { diffusion: 2 }, 1]);
  assert.doesNotMatch(response.text, /top-secret/);
});

test("each trouble is one line that says what to do", async (t) => {
  const run = async (url, name, args = [{}]) => {
    const lines = [];
    const program = new Program();
    addCommands(program, { settings: settingsFrom({ url }), keyOf: async () => "k", out: (text) => lines.push(text) });
    await program.commands.get("weir").commands.get(name).run(...args);
    t.after(() => (process.exitCode = undefined));
    const failed = process.exitCode === 1;
    process.exitCode = undefined;
    return { text: lines.join("\n"), failed };
  };
  const away = await run("http://127.0.0.1:9", "status");
  assert.ok(away.failed);
  assert.match(away.text, /does not answer.*weir serve/);
  const locked = await serve(t, { ...GOOD, "/v1/models": [401, "{}"] });
  assert.match((await run(locked.url, "doctor")).text, /does not know this key.*weir key new/);
  const other = await serve(t, { "/readyz": [404, "no"] });
  assert.ok((await run(other.url, "status")).failed);
  const good = await serve(t, GOOD);
  const fine = await run(good.url, "doctor");
  assert.ok(!fine.failed, fine.text);
  const old = host().api;
  delete old.registerHttpRoute;
  assert.throws(() => plugin.register(old), /too old.*2026/);
});

test("explain asks the explainer, and an older Weir for a short answer", async (t) => {
  const plan = JSON.stringify({ dialect: "openai_chat", plan: { route: "diffusion", reason: "short", attempts: [{ backend: "diffusion" }, { backend: "gpu" }] } });
  const explains = await serve(t, { ...GOOD, "/v1/route/explain": [200, plan] });
  const ask = async (url) => {
    let said = "";
    const program = new Program();
    addCommands(program, { settings: settingsFrom({ url }), keyOf: async () => undefined, out: (text) => (said += text) });
    await program.commands.get("weir").commands.get("explain").run(["sort", "these"], { model: "auto" });
    return said;
  };
  assert.match(await ask(explains.url), /^route: diffusion\nreason: short\nasked in this order: diffusion, gpu$/);
  const headers = { "x-weir-route": "ar", "x-weir-reason": "free text", "x-weir-backend": "gpu" };
  const older = await serve(t, { ...GOOD, "/v1/chat/completions": [200, '{"model":"m"}', headers] });
  assert.match(await ask(older.url), /route: ar\nreason: free text\nbackend: gpu\nmodel: m\n\(this Weir/);
});

test("the doctor looks at the binary and at the permission", async (t) => {
  const weir = await serve(t, GOOD);
  const settings = settingsFrom({ url: weir.url, service: { enabled: true, binary: "/nowhere/weir" }, lean: { triggers: ["cron"] } });
  const bad = (await examine(settings)).filter(({ ok }) => !ok).map(({ says }) => says);
  assert.equal(bad.length, 2);
  assert.match(bad[0], /cannot be run/);
  assert.match(bad[1], /allowConversationAccess/);
});
