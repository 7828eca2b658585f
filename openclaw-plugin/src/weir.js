// The questions this plugin asks Weir itself. Every failure comes out as a sentence that says what to do. Must never
// wait without a limit: OpenClaw's start hangs on these answers.
import { notWeir, unreachable, wrongKey } from "./advice.js";

const WAIT_MS = 3_000;

export class Weir {
  constructor(url, key) {
    this.url = url;
    this.key = key;
  }

  /** The rows of `/v1/models`. */
  async models() {
    const answer = await this.#ask("/v1/models");
    const body = await json(answer);
    if (!Array.isArray(body?.data)) throw notWeir(this.url, answer.status);
    return body.data;
  }

  /** Whether it takes traffic: `{ready, saying}`. */
  async readiness(signal) {
    const answer = await this.#ask("/readyz", { signal }, { anyStatus: true });
    const saying = (await answer.text()).trim().slice(0, 80);
    return { ready: answer.ok, saying };
  }

  /** The metrics page as `[{name, labels, value}]`. */
  async metrics() {
    return parseMetrics(await (await this.#ask("/metrics")).text());
  }

  /** How a request would be routed. `ran` says that a Weir too old to explain was asked for a short answer instead. */
  async explain(text, model) {
    const body = { model, messages: [{ role: "user", content: text }], max_tokens: 16 };
    const post = (path) =>
      this.#ask(
        path,
        { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } },
        { anyStatus: true, waitMs: 60_000 },
      );
    const told = await post("/v1/route/explain");
    if (told.ok) return { ran: false, plan: await json(told) };
    if (told.status !== 404) throw await refusal(this.url, told);
    const answer = await post("/v1/chat/completions");
    if (!answer.ok) throw await refusal(this.url, answer);
    const header = (name) => answer.headers.get(`x-weir-${name}`) ?? undefined;
    const { model: answered } = (await json(answer)) ?? {};
    return { ran: true, plan: { route: header("route"), reason: header("reason"), backend: header("backend"), model: answered } };
  }

  async #ask(path, init = {}, { anyStatus = false, waitMs = WAIT_MS } = {}) {
    const limit = AbortSignal.timeout(waitMs);
    const headers = { ...init.headers, ...(this.key ? { authorization: `Bearer ${this.key}` } : {}) };
    let answer;
    try {
      const signal = init.signal ? AbortSignal.any([init.signal, limit]) : limit;
      answer = await fetch(`${this.url}${path}`, { ...init, headers, signal });
    } catch (error) {
      throw unreachable(this.url, limit.aborted ? `no answer within ${waitMs} ms` : (error.cause?.code ?? error.message));
    }
    if (answer.status === 401) throw wrongKey(this.url);
    if (!answer.ok && !anyStatus) throw notWeir(this.url, answer.status);
    return answer;
  }
}

async function json(answer) {
  try {
    return await answer.json();
  } catch {
    return undefined;
  }
}

async function refusal(url, answer) {
  const body = await json(answer);
  const message = String(body?.error?.message ?? "").slice(0, 200);
  return message ? new Error(`Weir answered ${answer.status}: ${message}`) : notWeir(url, answer.status);
}

/** Prometheus' text format, as far as Weir writes it. */
export function parseMetrics(page) {
  const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/u;
  const label = /(\w+)="((?:[^"\\]|\\.)*)"/gu;
  return page
    .split("\n")
    .map((text) => line.exec(text))
    .filter(Boolean)
    .map(([, name, labels, value]) => ({
      name,
      labels: Object.fromEntries([...(labels ?? "").matchAll(label)].map(([, key, text]) => [key, text])),
      value: Number(value),
    }));
}
