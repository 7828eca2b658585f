// Weir for OpenClaw: the provider `weir`, hints on each of its requests, the optional service, the commands and the
// status route. Puts the parts of `src/` together; decides nothing itself.
import { noPermission, oldHost } from "./src/advice.js";
import { modelRows } from "./src/catalog.js";
import { addCommands } from "./src/commands.js";
import { agentHints, attemptHints, joined, simpleHints } from "./src/hints.js";
import { leanPrompt } from "./src/lean.js";
import { WeirService } from "./src/service.js";
import { KEY_VARIABLE, PLUGIN_ID, PROVIDER_ID, rootOf, settingsFrom } from "./src/settings.js";
import { status } from "./src/status.js";
import { Turns } from "./src/turns.js";
import { Weir } from "./src/weir.js";

const NEEDED = ["registerProvider", "registerService", "registerHttpRoute", "registerCli", "on"];
const DESCRIPTION = "A built-in diffusion engine beside your AR models, routed request by request";

/** Runs of the process; hooks of one registration and calls of another may be of the same run. */
const turns = new Turns();

export default {
  id: PLUGIN_ID,
  name: "Weir",
  description: DESCRIPTION,
  register(api) {
    const missing = NEEDED.find((name) => typeof api[name] !== "function");
    if (missing) throw oldHost(missing);
    const settings = settingsFrom(api.pluginConfig, api.config);
    const service = new WeirService(settings);

    api.registerProvider(provider(settings));
    observe(api, settings);
    api.registerService({ id: PLUGIN_ID, start: (ctx) => service.start(ctx), stop: () => service.stop() });
    api.registerHttpRoute({
      path: "/plugins/weir/status",
      auth: "gateway",
      match: "exact",
      handler: async (_request, response) => {
        const found = await status({ url: settings.url, key: await keyOf(api), service: service.state });
        response.statusCode = found.ready ? 200 : 503;
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify(found));
        return true;
      },
    });
    const commands = [{ name: PLUGIN_ID, description: "Look at Weir: status, explain, doctor", hasSubcommands: true }];
    api.registerCli(({ program }) => addCommands(program, { settings, keyOf: () => keyOf(api) }), { descriptors: commands });
  },
};

/** The key that requests are sent with, for questions outside of a request. */
async function keyOf(api) {
  if (process.env[KEY_VARIABLE]) return process.env[KEY_VARIABLE];
  try {
    const { resolveApiKeyForProvider } = await import("openclaw/plugin-sdk/provider-auth-runtime");
    return (await resolveApiKeyForProvider({ provider: PROVIDER_ID, cfg: api.config }))?.apiKey;
  } catch {
    return undefined;
  }
}

function provider(settings) {
  return {
    id: PROVIDER_ID,
    label: "Weir",
    envVars: [KEY_VARIABLE],
    catalog: {
      order: "simple",
      run: async (ctx) => {
        // `apiKey` may be a marker that names where the key is; it goes back as it came.
        const { apiKey, discoveryApiKey } = ctx.resolveProviderApiKey(PROVIDER_ID);
        if (!apiKey) return null;
        const listed = await new Weir(settings.url, discoveryApiKey).models().catch(() => undefined);
        const models = modelRows(listed, settings.contextWindow);
        return { provider: { baseUrl: `${settings.url}/v1`, api: "openai-completions", apiKey, models } };
      },
    },
    // A model the catalog has not heard of yet: Weir may have been reloaded since.
    resolveDynamicModel: (ctx) => ({
      ...modelRows([{ id: ctx.modelId }], settings.contextWindow)[0],
      provider: PROVIDER_ID,
      baseUrl: `${settings.url}/v1`,
    }),
    wrapStreamFn: (ctx) =>
      wrapped(ctx, settings, async (options) => {
        const { sessionId, requestId } = options ?? {};
        const about = await turns.about(requestId, sessionId);
        return agentHints({ agentId: ctx.agentId, sessionId, requestId, about, tenant: settings.tenant });
      }),
    wrapSimpleCompletionStreamFn: (ctx) =>
      wrapped(ctx, settings, async (options) => {
        const { maxTokens, requestId } = options ?? {};
        return simpleHints({ agentId: ctx.agentId, maxTokens, requestId, tenant: settings.tenant });
      }),
    resolveTransportTurnState: (ctx) => (settings.hints ? { headers: attemptHints(ctx) } : undefined),
  };
}

/** The stream with hints, towards Weir only. */
function wrapped(ctx, settings, hints) {
  const inner = ctx.streamFn;
  if (!inner || !settings.hints) return undefined;
  return async (model, context, options) => {
    if (rootOf(model.baseUrl) !== settings.url) return inner(model, context, options);
    return inner({ ...model, headers: joined(model.headers, await hints(options)) }, context, options);
  };
}

/** Learns who caused which run. Only the last two hooks need a permission, and they are asked for only with it. */
function observe(api, settings) {
  const learn = (event, ctx = {}, more = {}) =>
    turns.learn({
      runId: ctx.runId ?? event?.runId,
      sessionId: ctx.sessionId ?? event?.sessionId,
      sessionKey: ctx.sessionKey ?? event?.sessionKey,
      agentId: ctx.agentId,
      trigger: ctx.trigger,
      jobId: ctx.jobId,
      provenance: ctx.inputProvenance?.kind,
      ...more,
    });
  api.on("model_call_started", (event, ctx) => learn(event, ctx));
  api.on("heartbeat_prompt_contribution", (event, ctx) => learn(event, ctx, { trigger: "heartbeat" }));
  if (!settings.seesTurns) {
    if (settings.lean.triggers.length > 0) api.logger.warn(noPermission().message);
    return;
  }
  api.on("before_model_resolve", (event, ctx) => learn(event, ctx));
  if (settings.lean.triggers.length > 0) api.on("before_prompt_build", (_event, ctx) => leanPrompt(settings.lean, ctx));
}
