// Everything one set-up needs: upstreams, Weir, a tap between OpenClaw and Weir that keeps headers, OpenClaw with a home
// of its own. Loopback only; whatever it starts ends with `close`.
import { execFile, spawn, spawnSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

import { startScripted } from "./upstream.mjs";
import { wideNano, writeConfig, writePolicy } from "./weir_config.mjs";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../..");
const release = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, "target"), "release");
export const WEIR = process.env.WEIR_BIN ?? path.join(release, "weir");
const FAULTS = process.env.WEIR_FAULT_UPSTREAM_BIN ?? path.join(release, "weir-fault-upstream");
const TOKEN = "lab-token";
/** Longest wait for anything of OpenClaw, whose start alone takes 20 s of processor time. */
const WAIT_MS = Number(process.env.WEIR_OPENCLAW_WAIT_MS ?? 300_000);

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Asks until `look` gives something. */
export async function until(what, look, ms = WAIT_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class Lab {
  /** With upstreams and a config to which `more` is added; Weir is not started. */
  static async open(programs, more = "") {
    const lab = await Lab.#bare(programs);
    lab.scripted = await startScripted();
    await lab.#startFaults();
    lab.weirPort = await freePort();
    lab.weir = `http://127.0.0.1:${lab.weirPort}`;
    const { base } = lab.scripted;
    lab.written = { model: await wideNano(lab.folder), scripted: base, faults: lab.faults, closed: await freePort(), more };
    if (programs.smollm2) lab.written.smollm2 = programs.smollm2;
    await lab.write();
    lab.tapped = [];
    await lab.#startTap();
    return lab;
  }

  /** Another OpenClaw, with a state and a key of its own, on the Weir of this one. Closed before this one. */
  async beside(key) {
    const cell = await Lab.#bare(this.programs);
    const { scripted, faults, weirPort, weir, config, tapped, tap } = this;
    return Object.assign(cell, { scripted, faults, weirPort, weir, config, tapped, tap, key });
  }

  static async #bare(programs) {
    const lab = new Lab();
    Object.assign(lab, { programs, children: [], key: "lab" });
    lab.folder = await mkdtemp(path.join(tmpdir(), "weir-openclaw-"));
    lab.port = await freePort();
    await mkdir(path.join(lab.folder, "home/workspace"), { recursive: true });
    return lab;
  }

  async #startFaults() {
    const child = this.#spawn(FAULTS, [], { stdio: ["pipe", "pipe", "inherit"] });
    this.faults = await new Promise((resolve) => createInterface({ input: child.stdout }).once("line", resolve));
  }

  /** Writes Weir's config and rules; `change` goes over what was said before. */
  async write(change = {}) {
    Object.assign(this.written, change);
    await writePolicy(this.folder, this.written);
    this.config = await writeConfig(this.folder, this.written);
    const { status, stderr } = spawnSync(WEIR, ["check", "--config", this.config], { encoding: "utf8" });
    if (status !== 0) throw new Error(`the lab's config is wrong: ${stderr}`);
  }

  /** Changes them while Weir runs. */
  async reload(change) {
    const good = () => this.metric("weir_config_reloads_total", { outcome: "applied" });
    const before = await good();
    await this.write(change);
    process.kill(this.weirPid, "SIGHUP");
    await until("the reload", async () => (await good()) > before, 30_000);
  }

  /** Weir's process, whoever started it. */
  get weirPid() {
    const started = (this.log ?? []).map((line) => /local service ready: pid=(\d+)/u.exec(line)?.[1]).findLast(Boolean);
    return this.weirProcess?.pid ?? Number(started);
  }

  /** The lines of Weir's request log so far. */
  async requestLog() {
    const text = await readFile(path.join(path.dirname(this.config), "requests.jsonl"), "utf8").catch(() => "");
    return text.split("\n").filter(Boolean).map(json);
  }

  /** The line of a call that passed the tap. */
  lineOf(call) {
    return until("its line in the request log", async () => {
      const id = call.answer["x-request-id"];
      return id && (await this.requestLog()).findLast((line) => line.id === id);
    });
  }

  /** Passes everything on and keeps what passed. */
  async #startTap() {
    const server = http.createServer(async (request, response) => {
      const pieces = [];
      for await (const piece of request) pieces.push(piece);
      const body = Buffer.concat(pieces);
      const record = { path: request.url, headers: request.headers, bytes: body.length, body: json(body), answer: {} };
      this.tapped.push(record);
      const begun = Date.now();
      const onward = http.request(this.weir + request.url, { method: request.method, headers: request.headers }, (answer) => {
        record.answer = answer.headers;
        response.writeHead(answer.statusCode, answer.headers);
        answer.on("error", () => response.destroy());
        answer.on("close", () => (record.ms = Date.now() - begun));
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      response.on("close", () => onward.destroy());
      onward.end(body);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.tapServer = server;
    this.tap = `http://127.0.0.1:${server.address().port}`;
  }

  async startWeir() {
    const args = ["serve", "--listen", `127.0.0.1:${this.weirPort}`, "--config", this.config];
    this.weirProcess = this.#spawn(WEIR, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.weirLog = path.join(this.folder, "weir.log");
    this.weirProcess.stderr.on("data", (piece) => appendFileSync(this.weirLog, piece));
    await until("Weir is ready", () => fetch(`${this.weir}/readyz`).then(({ ok }) => ok, () => false), 30_000);
  }

  /** OpenClaw's config: what every set-up shares, and what this one adds. */
  async configure(own) {
    const shared = {
      gateway: {
        mode: "local",
        bind: "loopback",
        port: this.port,
        auth: { mode: "token", token: TOKEN },
        http: { endpoints: { chatCompletions: { enabled: true } } },
      },
      update: { checkOnStart: false },
    };
    const agents = { ...own.agents, defaults: { ...own.agents?.defaults, workspace: path.join(this.folder, "home/workspace") } };
    const before = json(await readFile(this.#openclawConfig(), "utf8").catch(() => "{}"));
    // What OpenClaw itself wrote about installed plugins stays.
    const plugins = { ...before.plugins, ...own.plugins };
    // OpenClaw takes a config without its own `meta` for a broken one and puts the last good one back.
    const kept = { ...(before.meta ? { meta: before.meta } : {}), ...(Object.keys(plugins).length > 0 ? { plugins } : {}) };
    const written = { ...own, ...shared, agents, ...kept };
    await writeFile(this.#openclawConfig(), JSON.stringify(written, null, 2));
  }

  #openclawConfig() {
    return path.join(this.folder, "openclaw.json");
  }

  get #environment() {
    const home = path.join(this.folder, "home");
    // What npm needs to reach its registry here; no keys of anybody.
    const network = Object.entries(process.env).filter(([name]) => /^(npm_config_|node_extra_ca|ssl_cert|https?_proxy|no_proxy)/iu.test(name));
    return {
      ...Object.fromEntries(network),
      NPM_CONFIG_USERCONFIG: path.join(homedir(), ".npmrc"),
      PATH: `${path.dirname(this.programs.node)}:${process.env.PATH}`,
      HOME: home,
      TMPDIR: this.folder,
      OPENCLAW_STATE_DIR: path.join(home, "state"),
      OPENCLAW_CONFIG_PATH: this.#openclawConfig(),
      WEIR_API_KEY: this.key,
      CI: "1",
      NO_COLOR: "1",
    };
  }

  /** A command of OpenClaw: `{code, out}`. */
  cli(...args) {
    const options = { env: this.#environment, cwd: this.folder, timeout: WAIT_MS, encoding: "utf8", maxBuffer: 1 << 24 };
    return new Promise((resolve) =>
      execFile(this.programs.node, [this.programs.openclaw, ...args], options, (error, stdout, stderr) =>
        resolve({ code: error ? (error.code ?? 1) : 0, out: stdout, all: stdout + stderr }),
      ),
    );
  }

  async startOpenclaw() {
    const begun = Date.now();
    this.openclaw = this.#spawn(this.programs.node, [this.programs.openclaw, "gateway", "run"], {
      env: this.#environment,
      cwd: this.folder,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.log = [];
    for (const stream of [this.openclaw.stdout, this.openclaw.stderr]) {
      createInterface({ input: stream }).on("line", (line) => this.log.push(line));
    }
    await until("OpenClaw is ready", async () => {
      if (this.openclaw.exitCode !== null) throw new Error(`OpenClaw ended:\n${this.log.slice(-15).join("\n")}`);
      return fetch(`http://127.0.0.1:${this.port}/readyz`).then(({ ok }) => ok, () => false);
    });
    return Date.now() - begun;
  }

  async stopOpenclaw() {
    const child = this.openclaw;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
  }

  /** A page of OpenClaw's own port. */
  page(where, options = {}) {
    const headers = { authorization: `Bearer ${TOKEN}`, ...options.headers };
    return fetch(`http://127.0.0.1:${this.port}${where}`, { ...options, headers });
  }

  /** One chat turn as a user of OpenClaw's API makes it: `{text, ms, status}`. */
  async chat(text, { user, model, agent = "default", stream = false, signal } = {}) {
    const begun = Date.now();
    const body = { model: `openclaw/${agent}`, stream, messages: [{ role: "user", content: text }], ...(user ? { user } : {}) };
    const headers = { "content-type": "application/json", ...(model ? { "x-openclaw-model": `weir/${model}` } : {}) };
    const limit = AbortSignal.timeout(WAIT_MS);
    const answer = await this.page("/v1/chat/completions", {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    const raw = await answer.text();
    const ms = Date.now() - begun;
    if (!stream) return { text: json(raw).choices?.[0]?.message?.content ?? raw, ms, status: answer.status };
    const events = raw.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
    const said = events.map((event) => json(event).choices?.[0]?.delta?.content ?? "").join("");
    return { text: said, ms, status: answer.status, done: events.at(-1) === "[DONE]", pieces: events.length };
  }

  /** The sum of a metric's values whose labels are these. */
  async metric(name, labels = {}) {
    // A Weir that OpenClaw has not started yet has counted nothing.
    const page = await fetch(`${this.weir}/metrics`).then((answer) => answer.text(), () => "");
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
    const lines = page.split("\n").filter((line) => line.startsWith(`${name}{`) && wanted.every((label) => line.includes(label)));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  /** Requests that passed the tap since `from`, to Weir's chat endpoint. */
  calls(from = 0) {
    return this.tapped.slice(from).filter(({ path: where }) => where === "/v1/chat/completions");
  }

  #spawn(program, args, options) {
    const child = spawn(program, args, options);
    this.children.push(child);
    return child;
  }

  async close() {
    const alive = this.children.filter((child) => child.exitCode === null && child.signalCode === null);
    const ended = alive.map((child) => new Promise((resolve) => child.once("exit", resolve)));
    for (const child of alive) child.kill(child === this.openclaw ? "SIGTERM" : "SIGKILL");
    await Promise.all(ended);
    if (this.tapServer) {
      this.tapServer.closeAllConnections();
      this.tapServer.close();
      this.scripted.stop();
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
