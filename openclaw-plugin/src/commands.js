// `openclaw weir status|explain|doctor`. Each prints for people, or JSON with --json, and exits with 1 when something is
// wrong. Must never print a key.
import { execFileSync } from "node:child_process";

import { noPermission } from "./advice.js";
import { findBinary } from "./binary.js";
import { shown, status } from "./status.js";
import { Weir } from "./weir.js";

/** Adds the commands to OpenClaw's program. */
export function addCommands(program, { settings, keyOf, out = console.log }) {
  const weir = program.command("weir").description("Look at Weir: status, explain, doctor");
  const fail = (error) => {
    out(error.message);
    process.exitCode = 1;
  };

  weir
    .command("status")
    .description("Whether Weir answers, what it lists and who answered so far")
    .option("--json", "as JSON")
    .action(async ({ json }) => {
      const found = await status({ url: settings.url, key: await keyOf() });
      out(json ? JSON.stringify(found, null, 2) : shown(found).join("\n"));
      if (found.trouble || !found.ready) process.exitCode = 1;
    });

  weir
    .command("explain")
    .description("Where a request with this text would go, and why")
    .argument("<text...>")
    .option("--model <id>", "the model it names", "auto")
    .option("--json", "as JSON")
    .action(async (words, { model, json }) => {
      try {
        const found = await new Weir(settings.url, await keyOf()).explain(words.join(" "), model);
        out(json ? JSON.stringify(found, null, 2) : explained(found));
      } catch (error) {
        fail(error);
      }
    });

  weir
    .command("doctor")
    .description("What is wrong between OpenClaw and Weir, and what to do about it")
    .option("--json", "as JSON")
    .action(async ({ json }) => {
      const findings = await examine(settings, await keyOf());
      out(json ? JSON.stringify(findings, null, 2) : findings.map(({ ok, says }) => `${ok ? "ok  " : "BAD "} ${says}`).join("\n"));
      if (findings.some(({ ok }) => !ok)) process.exitCode = 1;
    });
}

/** The plan in a few lines; `--json` has the rest: features, every rule, predictions. */
function explained({ ran, plan }) {
  const told = plan?.plan ?? plan ?? {};
  const names = (told.attempts ?? []).map((attempt) => attempt.backend ?? attempt);
  return [
    ...["route", "rule", "reason", "backend", "model"].filter((name) => told[name]).map((name) => `${name}: ${told[name]}`),
    ...(names.length > 0 ? [`asked in this order: ${names.join(", ")}`] : []),
    ...(ran ? ["(this Weir does not explain without answering, so a short answer was made)"] : []),
  ].join("\n");
}

/** Every check, each with what it found. */
export async function examine(settings, key) {
  const findings = [];
  const found = await status({ url: settings.url, key });
  findings.push({ ok: !found.trouble && found.ready, says: found.trouble ?? shown(found).join("; ") });
  if (settings.service.enabled) findings.push(binaryFinding(settings.service));
  if (settings.lean.triggers.length > 0) {
    findings.push(settings.seesTurns ? { ok: true, says: "lean prompts are allowed" } : { ok: false, says: noPermission().message });
  }
  if (found.models && !found.models.some(({ id }) => id === "diffusion")) {
    findings.push({ ok: false, says: "This key may not name `diffusion`: errands of OpenClaw will fail. Add it to the tenant's models in weir.toml." });
  }
  return findings;
}

function binaryFinding(service) {
  try {
    const binary = findBinary(service.binary);
    const version = execFileSync(binary, ["--version"], { encoding: "utf8", timeout: 10_000 }).trim();
    if (service.config) {
      execFileSync(binary, ["check", "--config", service.config], { encoding: "utf8", timeout: 30_000, stdio: "pipe" });
    }
    return { ok: true, says: `${binary} is ${version}${service.config ? `, and ${service.config} is good` : ""}` };
  } catch (error) {
    return { ok: false, says: String(error.stderr || error.message).trim().split("\n")[0] };
  }
}
