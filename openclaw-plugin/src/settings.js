// What the operator wrote under `plugins.entries.weir.config`, with every default in one place. Must never hold a key:
// keys come from OpenClaw's own credential store, request by request.

export const PLUGIN_ID = "weir";
export const PROVIDER_ID = "weir";
export const KEY_VARIABLE = "WEIR_API_KEY";
export const DEFAULT_URL = "http://127.0.0.1:8787";

/**
 * OpenClaw's own prompt alone takes about 16,000 tokens by its count; with a smaller window it leaves one token for the
 * answer. Weir gives what does not fit its engine to another backend by itself.
 */
export const LEAST_WINDOW = 32_768;

const LEAN_TEXT = "You are a capable assistant. Answer briefly and to the point.";

/** Settings from the plugin's config and OpenClaw's whole config. */
export function settingsFrom(written = {}, openclaw = {}) {
  const service = written.service ?? {};
  const lean = written.lean ?? {};
  return {
    url: rootOf(openclaw.models?.providers?.[PROVIDER_ID]?.baseUrl ?? written.url ?? DEFAULT_URL),
    tenant: written.tenant,
    hints: written.hints ?? true,
    contextWindow: written.contextWindow,
    service: {
      enabled: service.enabled ?? false,
      binary: service.binary,
      config: service.config,
      args: service.args ?? [],
      env: service.env ?? {},
      readyTimeoutMs: service.readyTimeoutMs ?? 30_000,
      stopTimeoutMs: service.stopTimeoutMs ?? 35_000,
    },
    lean: {
      triggers: lean.triggers ?? [],
      systemPrompt: lean.systemPrompt ?? LEAN_TEXT,
      keepTools: lean.keepTools ?? [],
    },
    /** Whether OpenClaw lets this plugin see turns before they are sent. */
    seesTurns: openclaw.plugins?.entries?.[PLUGIN_ID]?.hooks?.allowConversationAccess === true,
  };
}

/** The address without `/v1` and without a slash at its end. */
export function rootOf(url) {
  return String(url).trim().replace(/\/+$/u, "").replace(/\/v1$/u, "");
}

/** `HOST:PORT` the binary is told to listen on. */
export function listenOf(url) {
  const { hostname, port, protocol } = new URL(url);
  return `${hostname}:${port || (protocol === "https:" ? 443 : 80)}`;
}
