// What Weir learnt of who asked: from the plugin's headers, or without it from the text. Read from Weir's request log, so
// that it is what Weir knows and not what was sent.
import assert from "node:assert/strict";

export const withPlugin = (setup) => setup.name === "plugin";

/** What the plugin tells of every call; of errands it knows neither run nor session. */
const TOLD = { agent: ["session", "run", "turn"], errand: ["turn"] };

/** Asserts on it; gives what stands in the table. */
export async function told({ lab, setup }, call, trigger, { job } = {}) {
  const { plan, origin = {}, client } = await lab.lineOf(call);
  const why = JSON.stringify({ trigger: plan.features.trigger, agent: plan.features.agent, origin });
  assert.equal(client, "openclaw", why);
  assert.equal(plan.features.trigger, trigger, why);
  const isErrand = trigger === "utility";
  if (!withPlugin(setup)) {
    assert.deepEqual(origin, {}, "nobody told it");
    return `trigger ${trigger}, from the text`;
  }
  const names = TOLD[isErrand ? "errand" : "agent"];
  for (const name of names) assert.ok(origin[name], `${name}: ${why}`);
  assert.deepEqual([origin.attempt, origin.tenant_tag, origin.job], [1, "cell-1", job], why);
  if (!isErrand) assert.equal(plan.features.agent, "main", why);
  return `logged: trigger ${trigger}${isErrand ? "" : ", agent"}, ${names.join(", ")}, attempt, tag${job ? ", job" : ""}`;
}
