// The parts that need no process and no socket.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { modelRows } from "../src/catalog.js";
import { HEADERS, agentHints, attemptHints, joined, keyParts, simpleHints, triggerOf } from "../src/hints.js";
import { leanPrompt } from "../src/lean.js";
import { LEAST_WINDOW, listenOf, rootOf, settingsFrom } from "../src/settings.js";
import { Turns, runOf } from "../src/turns.js";
import { parseMetrics } from "../src/weir.js";

const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
const manifest = JSON.parse(read("openclaw.plugin.json"));
const packaged = JSON.parse(read("package.json"));

test("who asked, for every kind of session", () => {
  const main = "agent:main:main";
  assert.equal(triggerOf({ sessionKey: main }), "user");
  assert.equal(triggerOf({ sessionKey: main, trigger: "heartbeat" }), "heartbeat");
  assert.equal(triggerOf({ sessionKey: main, trigger: "user", provenance: "inter_session" }), "inter_session");
  assert.equal(triggerOf({ sessionKey: "agent:main:cron:7f3a:run:2" }), "cron");
  assert.equal(triggerOf({ sessionKey: "agent:main:subagent:9c" }), "subagent");
  assert.equal(triggerOf({ sessionKey: "agent:main:cron:7f3a:subagent:9c" }), "subagent");
  assert.equal(triggerOf({ sessionKey: "agent:main:openai-user:cron:7" }), "user", "a user's own name is no trigger");
  assert.equal(triggerOf({}), undefined, "nothing told, nothing said");
});

test("a session's key names agent and job", () => {
  assert.deepEqual(keyParts("agent:home:cron:7f3a:run:2"), { agent: "home", job: "7f3a", cron: true, subagent: false });
  assert.deepEqual(keyParts(undefined), { agent: undefined, job: undefined, cron: false, subagent: false });
});

test("the hints of an agent's call", () => {
  const about = { runId: "r1", sessionKey: "agent:main:cron:j1:run:1" };
  const hints = agentHints({ agentId: "main", sessionId: "s1", requestId: "r1:model:2", about, tenant: "kitchen" });
  assert.deepEqual(hints, {
    "x-weir-client": "openclaw",
    "x-weir-agent": "main",
    "x-weir-session": "s1",
    "x-weir-trigger": "cron",
    "x-weir-job": "j1",
    "x-weir-run": "r1",
    "x-weir-tenant-tag": "kitchen",
    "x-request-id": "r1:model:2",
  });
  assert.deepEqual(attemptHints({ turnId: "t1", attempt: 2 }), { "x-weir-turn": "t1", "x-weir-attempt": "2" });
});

test("small simple calls are errands, large ones a person's", () => {
  assert.equal(simpleHints({ maxTokens: 240 })["x-weir-trigger"], "utility");
  assert.equal(simpleHints({ maxTokens: 8_192 })["x-weir-trigger"], undefined);
  assert.equal(simpleHints({})["x-weir-trigger"], undefined);
});

test("nothing that could break a header becomes one", () => {
  const hints = agentHints({ agentId: "a\r\nx-evil: 1", sessionId: "s".repeat(500), tenant: "köche", about: {} });
  assert.deepEqual(hints, { "x-weir-client": "openclaw" });
});

test("the operator's own headers win, in any spelling", () => {
  const both = joined({ "X-Weir-Agent": "mine", "x-other": "1" }, { "x-weir-agent": "ours", "x-weir-run": "r" });
  assert.deepEqual(both, { "X-Weir-Agent": "mine", "x-other": "1", "x-weir-run": "r" });
});

test("the README lists every header, and no other", () => {
  const listed = [...read("README.md").matchAll(/^\| `(x-[a-z-]+)` \|/gmu)].map(([, name]) => name);
  assert.deepEqual(listed.sort(), Object.values(HEADERS).sort());
});

test("runs are remembered, in bounds, and late tellings are waited for", async () => {
  const turns = new Turns();
  assert.equal(runOf("chatcmpl_1:model:3"), "chatcmpl_1");
  const waiting = turns.about("r:model:1", "s");
  turns.learn({ runId: "r", sessionId: "s", sessionKey: "agent:main:main" });
  turns.learn({ runId: "r", trigger: "heartbeat" });
  assert.equal((await waiting).trigger, "heartbeat");
  assert.equal((await turns.about("other:model:1", "s")).sessionKey, "agent:main:main", "known by its session");
  for (let run = 0; run < 5_000; run += 1) turns.learn({ runId: `r${run}`, sessionId: `s${run}`, sessionKey: "k" });
  assert.ok(turns.size <= 2_000, `${turns.size}`);
});

test("windows never fall below OpenClaw's own prompt on the three names", () => {
  const listed = [
    { id: "auto", context_window: 65_536 },
    { id: "diffusion", context_window: 1_024 },
    { id: "ar" },
    { id: "gpu-model", context_window: 4_096 },
  ];
  const rows = Object.fromEntries(modelRows(listed).map((row) => [row.id, row]));
  assert.equal(rows.auto.contextWindow, 65_536);
  assert.equal(rows.diffusion.contextWindow, LEAST_WINDOW);
  assert.equal(rows.diffusion.compat.supportsTools, false);
  assert.equal(rows.ar.contextWindow, LEAST_WINDOW);
  assert.equal(rows["gpu-model"].contextWindow, 4_096, "a model by its own name has its own window");
  assert.ok(rows["gpu-model"].maxTokens <= 4_096);
  assert.deepEqual(modelRows([{ id: "auto" }]).map(({ id }) => id), ["auto"], "only what the key may name");
  assert.equal(modelRows(undefined).length, 3, "not reachable yet: the three names");
  assert.equal(modelRows(listed, 131_072)[1].contextWindow, 131_072);
});

test("the manifest offers what the catalog offers", () => {
  const { models, defaultUtilityModel } = manifest.modelCatalog.providers.weir;
  assert.equal(defaultUtilityModel, "diffusion");
  const rows = modelRows(undefined);
  const short = ({ id, name, contextWindow, maxTokens }) => ({ id, name, contextWindow, maxTokens });
  assert.deepEqual(models.map(short), rows.map(short));
  assert.equal(models.find(({ id }) => id === "diffusion").compat.supportsTools, false);
  assert.equal(manifest.modelCatalog.providers.weir.baseUrl, undefined, "it would win over the operator's address");
  assert.equal(manifest.version, packaged.version);
  for (const version of Object.values(packaged.optionalDependencies)) assert.equal(version, packaged.version);
});

test("every field of the config has a hint for people, and the schema's defaults are the code's", () => {
  const leaves = (schema, path = []) =>
    Object.entries(schema.properties).flatMap(([name, field]) =>
      field.properties ? leaves(field, [...path, name]) : [{ path: [...path, name], field }],
    );
  const settings = settingsFrom();
  for (const { path, field } of leaves(manifest.configSchema)) {
    assert.ok(manifest.uiHints[path.join(".")]?.label, path.join("."));
    if ("default" in field) assert.equal(path.reduce((at, name) => at[name], settings), field.default, path.join("."));
  }
});

test("addresses", () => {
  assert.equal(rootOf("http://h:1/v1/"), "http://h:1");
  assert.equal(listenOf("http://127.0.0.1:8787"), "127.0.0.1:8787");
  const openclaw = { models: { providers: { weir: { baseUrl: "http://h:2/v1" } } } };
  assert.equal(settingsFrom({ url: "http://h:1" }, openclaw).url, "http://h:2", "OpenClaw's own setting is where it asks");
});

test("the lean prompt is for the named triggers and our models only", () => {
  const { lean } = settingsFrom({ lean: { triggers: ["cron"], systemPrompt: "Short.", keepTools: ["exec"] } });
  const cron = { modelProviderId: "weir", trigger: "cron" };
  assert.deepEqual(leanPrompt(lean, cron), { systemPrompt: "Short.", toolsAllow: ["exec"] });
  assert.equal(leanPrompt(lean, { ...cron, modelProviderId: "anthropic" }), undefined);
  assert.equal(leanPrompt(lean, { ...cron, trigger: "user" }), undefined);
});

test("metrics are read as Weir writes them", () => {
  const page = '# HELP a b\nweir_requests_total{backend="ar",outcome="x\\"y"} 3\nweir_up 1\n';
  assert.deepEqual(parseMetrics(page), [
    { name: "weir_requests_total", labels: { backend: "ar", outcome: 'x\\"y' }, value: 3 },
    { name: "weir_up", labels: {}, value: 1 },
  ]);
});
