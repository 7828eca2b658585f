// Remembers, for each agent run that OpenClaw tells about, who caused it. Hooks write here, the provider reads. Must
// never keep a word of a conversation, and never more than a bounded number of runs.

const MOST = 1_000;

/** OpenClaw tells of a call and makes it in the same breath; the telling needs a few turns of the event loop. */
const TURNS_OF_THE_LOOP = 4;

export class Turns {
  #runs = new Map();
  #sessions = new Map();

  /** What a hook told about a run. Later tellings add to earlier ones. */
  learn({ runId, sessionId, sessionKey, agentId, trigger, jobId, provenance } = {}) {
    if (runId) {
      merge(this.#runs, runId, { sessionId, sessionKey, agentId, trigger, jobId, provenance });
    }
    if (sessionId && sessionKey) {
      merge(this.#sessions, sessionId, { sessionKey });
    }
  }

  /** What is known about the call with this id (`<run>:model:<n>`) in this session. */
  async about(requestId, sessionId) {
    const runId = runOf(requestId);
    for (let turn = 0; runId && !this.#runs.get(runId)?.sessionKey && turn < TURNS_OF_THE_LOOP; turn += 1) {
      await new Promise(setImmediate);
    }
    return { ...this.#sessions.get(sessionId), ...this.#runs.get(runId), runId };
  }

  get size() {
    return this.#runs.size + this.#sessions.size;
  }
}

/** The run's part of a call's id. */
export function runOf(requestId) {
  return requestId?.replace(/:model:\d+$/u, "") || undefined;
}

function merge(map, key, told) {
  const known = map.get(key) ?? {};
  map.delete(key); // so that the one told of last is the last in order
  const news = Object.entries(told).filter(([, value]) => value !== undefined);
  map.set(key, { ...known, ...Object.fromEntries(news) });
  if (map.size > MOST) {
    map.delete(map.keys().next().value);
  }
}
