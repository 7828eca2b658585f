// What Weir is told about a request, as headers. They advise; rights and limits hang on the key alone. Must never carry
// text of a conversation, and must never go to an address that is not Weir's.

/** Every header the plugin may send. The README's table and the tests are held to this list. */
export const HEADERS = {
  client: "x-weir-client",
  agent: "x-weir-agent",
  session: "x-weir-session",
  trigger: "x-weir-trigger",
  job: "x-weir-job",
  run: "x-weir-run",
  turn: "x-weir-turn",
  attempt: "x-weir-attempt",
  tenant: "x-weir-tenant-tag",
  request: "x-request-id",
};

const LONGEST = 128;

/** Headers of a call made by an agent's run. */
export function agentHints({ agentId, sessionId, requestId, about = {}, tenant }) {
  const sessionKey = about.sessionKey;
  const fromKey = keyParts(sessionKey);
  return plain({
    [HEADERS.client]: "openclaw",
    [HEADERS.agent]: agentId ?? about.agentId ?? fromKey.agent,
    [HEADERS.session]: sessionId ?? sessionKey,
    [HEADERS.trigger]: triggerOf(about, fromKey),
    [HEADERS.job]: about.jobId ?? fromKey.job,
    [HEADERS.run]: about.runId,
    [HEADERS.tenant]: tenant,
    [HEADERS.request]: requestId,
  });
}

/** OpenClaw's own errands (titles, recaps: 240 tokens) ask for little; a larger simple call is a person's `infer`. */
const ERRAND_TOKENS = 1_024;

/** Headers of a call outside of any run, where neither run nor session is known. */
export function simpleHints({ agentId, maxTokens, requestId, tenant }) {
  return plain({
    [HEADERS.client]: "openclaw",
    [HEADERS.agent]: agentId,
    [HEADERS.trigger]: maxTokens <= ERRAND_TOKENS ? "utility" : undefined,
    [HEADERS.tenant]: tenant,
    [HEADERS.request]: requestId,
  });
}

/** Headers of one try of a turn. */
export function attemptHints({ turnId, attempt }) {
  return plain({ [HEADERS.turn]: turnId, [HEADERS.attempt]: attempt === undefined ? undefined : String(attempt) });
}

/**
 * Weir's word for who asked. The surest first: what the key of the session says, then what OpenClaw says of the run. A
 * run of which nothing was told is a person's only when its session is one that people talk in; else nothing is said and
 * Weir looks for itself.
 */
export function triggerOf({ trigger, provenance, sessionKey }, { cron, subagent } = keyParts(sessionKey)) {
  if (subagent) return "subagent";
  if (cron || trigger === "cron") return "cron";
  if (trigger === "heartbeat") return "heartbeat";
  if (provenance === "inter_session") return "inter_session";
  if (trigger === "user" || sessionKey) return "user";
  return undefined;
}

/** `agent:<agent>:cron:<job>…`, `agent:<agent>:subagent:<id>`, `agent:<agent>:<anything else>`. */
export function keyParts(sessionKey) {
  const [, agent, rest = ""] = /^agent:([^:]+):(.*)$/u.exec(sessionKey ?? "") ?? [];
  const [, job] = /^cron:([^:]+)/u.exec(rest) ?? [];
  return { agent, job, cron: job !== undefined, subagent: /(?:^|:)subagent:/u.test(rest) };
}

/** The headers a model has and these; the operator's own win. */
export function joined(headers, hints) {
  const taken = new Set(Object.keys(headers ?? {}).map((name) => name.toLowerCase()));
  const added = Object.entries(hints).filter(([name]) => !taken.has(name));
  return { ...headers, ...Object.fromEntries(added) };
}

/** Visible ASCII of bounded length, so that nothing can break a header; what would be changed by that is left out. */
function plain(hints) {
  const fits = ([, value]) => typeof value === "string" && value.length > 0 && value.length <= LONGEST && /^[!-~]+$/u.test(value);
  return Object.fromEntries(Object.entries(hints).filter(fits));
}
