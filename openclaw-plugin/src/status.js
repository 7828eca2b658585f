// How Weir stands, as one object: for the status route, the status command and the doctor. Must never throw: what is
// wrong is part of the answer.
import { Weir } from "./weir.js";

/** `{url, ready, models, requests, backends, trouble, service}`. */
export async function status({ url, key, service }) {
  const weir = new Weir(url, key);
  const found = { url, ready: false, service };
  try {
    const { ready, saying } = await weir.readiness();
    Object.assign(found, { ready, saying });
    const [models, metrics] = await Promise.all([weir.models(), weir.metrics()]);
    found.models = models.map((entry) => ({ id: entry.id, backend: entry.owned_by, window: entry.context_window }));
    found.requests = sums(metrics, "weir_requests_total", "backend");
    found.fallbacks = total(metrics, "weir_fallbacks_total");
    found.inFlight = total(metrics, "weir_in_flight");
  } catch (error) {
    found.trouble = error.message;
  }
  return found;
}

const of = (metrics, name) => metrics.filter((metric) => metric.name === name);
const total = (metrics, name) => of(metrics, name).reduce((sum, { value }) => sum + value, 0);

function sums(metrics, name, label) {
  const sums = {};
  for (const { labels, value } of of(metrics, name)) {
    sums[labels[label]] = (sums[labels[label]] ?? 0) + value;
  }
  return sums;
}

/** The same as lines for people. */
export function shown({ url, ready, saying, models, requests, fallbacks, service, trouble }) {
  const counts = Object.entries(requests ?? {}).map(([backend, count]) => `${backend} ${count}`);
  return [
    `Weir at ${url}: ${ready ? "ready" : (saying ?? "not reachable")}`,
    ...(models ? [`models: ${models.map(({ id }) => id).join(", ")}`] : []),
    ...(requests ? [`answered by: ${counts.join(", ") || "nobody yet"}; taken over ${fallbacks} times`] : []),
    ...(service?.managed ? [`service: pid ${service.pid ?? "none"}, started again ${service.restarts} times`] : []),
    ...(trouble ? [trouble] : []),
  ];
}
