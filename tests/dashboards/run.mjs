// A real Prometheus scrapes a real Weir under load; every query of every dashboard and every recording rule must then
// have data. Also promtool over rules and alerts. Without Prometheus (Debian: `apt-get install prometheus`) it says so and
// counts as skipped.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const config = path.join(here, "../../config");
const release = path.join(process.env.CARGO_TARGET_DIR ?? path.join(here, "../../target"), "release");
const WEIR = process.env.WEIR_BIN ?? path.join(release, "weir");
const FAULTS = process.env.WEIR_FAULT_UPSTREAM_BIN ?? path.join(release, "weir-fault-upstream");
/** The time `rate` looks back in the dashboards' queries here; in Grafana four scrapes. */
const WINDOW = "30s";

const missing = () => {
  try {
    execFileSync("promtool", ["--version"], { stdio: "pipe" });
    execFileSync("prometheus", ["--version"], { stdio: "pipe" });
    return false;
  } catch {
    return "prometheus and promtool are not installed (Debian: apt-get install prometheus)";
  }
};
const skip = missing();
if (skip) console.log(skip);

const rules = ["rules.yml", "alerts.yml"].map((name) => path.join(config, "prometheus", name));

test("promtool: rules and alerts", { skip }, () => {
  execFileSync("promtool", ["check", "rules", ...rules], { stdio: "pipe" });
  execFileSync("promtool", ["test", "rules", path.join(here, "alerts.test.yml")], { stdio: "pipe" });
  const alerts = readFileSync(rules[1], "utf8");
  const tested = readFileSync(path.join(here, "alerts.test.yml"), "utf8");
  for (const [, name] of alerts.matchAll(/- alert: (\w+)/gu)) assert.ok(tested.includes(`alertname: ${name}`), `${name} is not tested`);
  assert.equal(alerts.match(/- alert:/gu).length, alerts.match(/runbook:/gu).length, "each says what to do");
});

test("the reference of metrics is what the binary says", () => {
  const said = execFileSync(WEIR, ["metrics-doc"], { encoding: "utf8" });
  const written = readFileSync(path.join(here, "../../docs/metrics.md"), "utf8");
  assert.equal(written, said, "run `weir metrics-doc --out docs/metrics.md`");
});

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(what, look) {
  const deadline = Date.now() + 90_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not in time`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A gateway on which everything that has a metric can happen. */
function weirConfig(faults, redis, hash) {
  const backend = (name, fault, more = "") => `[[backend]]\nname = "${name}"\nmodel = "${name}"\nbase_url = "${faults}/${fault}/v1"\n${more}\n`;
  return [
    "[attempts]\nhedge = true\nhedge_after_ms = 50\n",
    `[tenants]\nstore = "redis://127.0.0.1:${redis}/0"\nstore_timeout_ms = 50\n`,
    `[[tenant]]\nname = "kitchen"\nkeys = [{ hash = "${hash}" }]\nrequests_per_minute = 100000\n`,
    backend("fine", "fine"),
    backend("broken", "503", "retries = 1"),
    backend("slow", "silent", "headers_timeout_ms = 500"),
  ].join("\n");
}

test("every panel and every rule has data", { skip, timeout: 300_000 }, async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "weir-dashboards-"));
  const children = [];
  t.after(async () => {
    const ended = children.map((child) => new Promise((resolve) => (child.exitCode === null ? child.once("exit", resolve) : resolve())));
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(ended);
    rmSync(folder, { recursive: true, force: true });
  });
  const start = (program, args, stdio) => {
    const child = spawn(program, args, { stdio, cwd: folder });
    children.push(child);
    return child;
  };
  const upstream = start(FAULTS, [], ["pipe", "pipe", "inherit"]);
  const faults = await new Promise((resolve) => createInterface({ input: upstream.stdout }).once("line", resolve));
  const key = "a-key-for-dashboards";
  const hash = execFileSync(WEIR, ["key", "hash"], { input: key, encoding: "utf8" }).match(/sha256:[0-9a-f]+/u)[0];
  const file = path.join(folder, "weir.toml");
  writeFileSync(file, weirConfig(faults, await freePort(), hash));
  const weirPort = await freePort();
  const weir = `http://127.0.0.1:${weirPort}`;
  start(WEIR, ["serve", "--listen", `127.0.0.1:${weirPort}`, "--config", file], "ignore");
  await until("Weir", () => fetch(`${weir}/readyz`).then(({ ok }) => ok, () => false));

  const promPort = await freePort();
  const prom = `http://127.0.0.1:${promPort}`;
  const promConfig = path.join(folder, "prometheus.yml");
  writeFileSync(
    promConfig,
    JSON.stringify({
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: rules,
      scrape_configs: [{ job_name: "weir", static_configs: [{ targets: [`127.0.0.1:${weirPort}`] }] }],
    }),
  );
  start("prometheus", [`--config.file=${promConfig}`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=127.0.0.1:${promPort}`], "ignore");
  await until("Prometheus", () => fetch(`${prom}/-/ready`).then(({ ok }) => ok, () => false));

  const ask = (model, text, bearer = key) =>
    fetch(`${weir}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${bearer}` },
      body: JSON.stringify({ model, messages: [{ role: "user", content: text }], max_tokens: 64 }),
    })
      .then((answer) => answer.text())
      .catch(() => {});
  let loading = true;
  const sort = (n) => `Sort these words: lemon, apple, mirror, chair ${n}`;
  const load = (async () => {
    for (let n = 0; loading; n += 1) {
      const models = ["auto", "diffusion", "ar", "fine", "broken", "slow"];
      await Promise.all(models.map((model) => ask(model, sort(n % 3))));
      await ask("ar", "x", "wrong");
    }
  })();
  t.after(() => (loading = false));

  const query = async (expr) => {
    const answer = await (await fetch(`${prom}/api/v1/query?query=${encodeURIComponent(expr)}`)).json();
    assert.equal(answer.status, "success", `${expr}: ${answer.error}`);
    return answer.data.result.filter(({ value: [, value] }) => value !== "NaN");
  };
  const wanted = [];
  for (const name of readdirSync(path.join(config, "grafana"))) {
    const { panels, title } = JSON.parse(readFileSync(path.join(config, "grafana", name), "utf8"));
    for (const panel of panels) {
      for (const { expr } of panel.targets) {
        wanted.push({ where: `${title} / ${panel.title}`, expr: expr.replaceAll("$__rate_interval", WINDOW).replaceAll("$job", ".*") });
      }
    }
  }
  for (const [, record] of readFileSync(rules[0], "utf8").matchAll(/- record: (\S+)/gu)) wanted.push({ where: "rules.yml", expr: record });
  assert.ok(wanted.length > 60, `${wanted.length}`);
  // All at once at the end of the wait: a query that has no data yet is asked again.
  let empty = wanted;
  await until("data", async () => {
    const answers = await Promise.all(empty.map(async (one) => ({ one, found: await query(one.expr) })));
    empty = answers.filter(({ found }) => found.length === 0).map(({ one }) => one);
    return empty.length === 0;
  }).catch((error) => {
    assert.fail(`${error.message}: ${empty.map(({ where, expr }) => `\n  ${where}: ${expr}`).join("")}`);
  });
  loading = false;
  await load;
  console.log(`${wanted.length} queries, all with data`);
});
