// `cargo xtask e2e-openclaw`: the real OpenClaw against the real Weir, with each set-up the documents describe. Prints a
// table and, for the counting, node's own closing lines. WEIR_OPENCLAW_ONLY names set-ups, or SET-UP:SCENARIO,SCENARIO, by
// a part of their names; "OpenClaw alone" is the comparison without Weir.
import { cells, shared } from "./cells.mjs";
import { faults } from "./faults.mjs";
import { OPENCLAW, programs } from "./programs.mjs";
import { realModel, realModelAlone } from "./real_model.mjs";
import { restarts } from "./restarts.mjs";
import { alone, served } from "./scenarios.mjs";
import { setups } from "./setups.mjs";
import { comparison, withoutWeir } from "./without_weir.mjs";

const only = process.env.WEIR_OPENCLAW_ONLY;
const rows = [];
const times = [];
/** Longest text of a column. */
const LONGEST = 90;
let failed = 0;
let skipped = 0;

const seconds = (ms) => (ms === undefined ? "-" : `${(ms / 1000).toFixed(2)} s`);

async function tryOne(scenario, setup, lab) {
  if (scenario.needs && !found[scenario.needs]) {
    skipped += 1;
    rows.push([setup.name, scenario.name, "skipped", "", `${scenario.needs} is not there`, ""]);
    return;
  }
  const begun = Date.now();
  try {
    const { saw, recorded, timing } = await scenario.run({ lab, setup });
    if (timing) times.push({ setup: setup.name, ...timing });
    rows.push([setup.name, scenario.name, "ok", timing ? seconds(timing.turn) : "", saw.replaceAll("\n", " "), recorded]);
  } catch (error) {
    failed += 1;
    rows.push([setup.name, scenario.name, "FAILED", `${((Date.now() - begun) / 1000).toFixed(1)} s`, error.message.split("\n")[0], ""]);
    console.log(`${error.stack}\n`);
    const logs = lab.cells ? Object.values(lab.cells).flatMap(({ log }) => log.slice(-6)) : (lab.log ?? []).slice(-12);
    for (const line of logs) console.log(`  openclaw: ${line.slice(0, 300)}`);
  }
  console.log(rows.at(-1).join(" | "));
}

const wanted = (scenario) => !only?.includes(":") || only.split(":")[1].split(",").some((part) => scenario.name.includes(part));

const found = programs();

/** Each set-up with what is tried before OpenClaw's gateway runs, and with it. */
const all = [
  ...setups.map((setup) => ({ setup, before: [...alone, ...realModelAlone], then: [...served, ...faults, ...realModel, ...restarts] })),
  { setup: cells, before: [], then: shared },
  // Only by its own name: it waits for minutes.
  ...(only === withoutWeir.name ? [{ setup: withoutWeir, before: [], then: comparison }] : []),
];
for (const { setup, before, then } of all.filter(({ setup: { name } }) => !only || name.includes(only.split(":")[0]))) {
  let lab;
  try {
    lab = await setup.open(found);
    for (const scenario of before.filter(wanted)) await tryOne(scenario, setup, lab);
    await setup.start(lab);
    for (const scenario of then.filter(wanted)) await tryOne(scenario, setup, lab);
  } catch (error) {
    failed += 1;
    rows.push([setup.name, "start", "FAILED", "", error.message.split("\n")[0], ""]);
    console.log(error.stack);
  } finally {
    if (lab) await setup.close(lab);
  }
}

for (const row of rows) for (const [column, text] of row.entries()) row[column] = text.slice(0, LONGEST);
const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
const ar = found.smollm2 ? "AR is a scripted upstream and SmolLM2-135M in Weir" : "AR is a scripted upstream";
console.log(`\nOpenClaw ${OPENCLAW}; ${ar}, diffusion the embedded model with a longer window`);
console.log("set-up, scenario, result, time until the user has the answer, what the user saw, what Weir recorded");
for (const row of rows) console.log(row.map((text, column) => text.padEnd(widths[column])).join("  ").trimEnd());
if (times.length > 0) console.log("\nset-up, upstream's fault, who answers, Weir's part, the whole turn at a warm gateway");
for (const { setup, fault, by, weir, turn } of times) console.log([setup, fault, by, seconds(weir), seconds(turn)].join("  "));
console.log(`\n# tests ${rows.length}\n# pass ${rows.length - failed - skipped}\n# fail ${failed}\n# skipped ${skipped}`);
process.exitCode = failed > 0 ? 1 : 0;
