// Runs the weir binary beside OpenClaw's gateway: starts it, waits until it is ready, starts it again when it dies, and
// ends it with SIGTERM. One process at a time, and never one that outlives OpenClaw's own stop.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { endedEarly, notLoopback, notReady, unreachable } from "./advice.js";
import { findBinary } from "./binary.js";
import { listenOf } from "./settings.js";
import { Weir } from "./weir.js";

const LOOK_MS = 50;
const RESTART_MS = { first: 250, most: 15_000 };
/** A process that lived this long had started well: the next restart is quick again. */
const HEALTHY_MS = 60_000;
const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);

export class WeirService {
  #child;
  #stopping = true;
  #restarts = 0;
  #wait = RESTART_MS.first;
  #timer;
  #since;
  #trouble;
  #lastLine = "";
  #listens = false;

  constructor(settings) {
    this.settings = settings;
  }

  /** For the status route and the status command. */
  get state() {
    return {
      managed: this.settings.service.enabled,
      pid: this.#child?.pid,
      restarts: this.#restarts,
      upSince: this.#child && this.#since ? new Date(this.#since).toISOString() : undefined,
      trouble: this.#trouble,
    };
  }

  /** Resolves once `/readyz` says yes; rejects with a sentence that says what to do. */
  async start({ logger, serviceHealth } = {}) {
    this.logger = logger;
    this.health = serviceHealth;
    this.#stopping = false;
    this.#restarts = 0;
    this.#wait = RESTART_MS.first;
    const { url, service } = this.settings;
    if (!service.enabled) return this.#lookAround();
    if (!LOOPBACK.has(new URL(url).hostname)) throw notLoopback(url);
    try {
      await this.#launch();
    } catch (error) {
      this.#trouble = error.message;
      await this.stop();
      throw error;
    }
  }

  /** SIGTERM, then a wait for running answers, then SIGKILL. */
  async stop() {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    const lastResort = setTimeout(() => child.kill("SIGKILL"), this.settings.service.stopTimeoutMs);
    await ended;
    clearTimeout(lastResort);
  }

  /** A Weir that somebody else runs is looked at once, so that a wrong address shows at the start and not in a turn. */
  async #lookAround() {
    try {
      const { ready, saying } = await new Weir(this.settings.url).readiness();
      if (!ready) throw unreachable(this.settings.url, saying);
      this.#trouble = undefined;
      this.health?.clearFailure();
    } catch (error) {
      // It may come later, and OpenClaw's other providers work without it.
      this.#trouble = error.message;
      this.health?.reportFailure(error);
      this.logger?.warn(error.message);
    }
  }

  async #launch() {
    const { url, service } = this.settings;
    const binary = findBinary(service.binary);
    const config = service.config ? ["--config", service.config] : [];
    const args = ["serve", "--listen", listenOf(url), ...config, ...service.args];
    const child = spawn(binary, args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...service.env } });
    this.#child = child;
    this.#since = Date.now();
    this.#listens = false;
    const exit = new Promise((resolve) => {
      child.once("exit", (code, signal) => resolve(signal ?? code));
      child.once("error", (error) => resolve(error.code ?? error.message));
    });
    createInterface({ input: child.stderr }).on("line", (line) => {
      this.#lastLine = line.slice(0, 300);
      this.#listens ||= line.includes("listens on");
      this.logger?.debug?.(`weir: ${line}`);
    });
    await this.#untilReady(exit);
    this.#trouble = undefined;
    this.health?.clearFailure();
    this.logger?.info(`Weir is ready at ${url} (pid ${child.pid})`);
    void exit.then((code) => this.#ended(child, code));
  }

  async #untilReady(exit) {
    const { url, service } = this.settings;
    const weir = new Weir(url);
    const deadline = Date.now() + service.readyTimeoutMs;
    let over;
    void exit.then((code) => (over = { code }));
    while (Date.now() < deadline) {
      if (over) throw endedEarly(over.code, this.#lastLine);
      // Before its own word for it, another program on the same port might answer for it.
      const { ready } = this.#listens ? await weir.readiness().catch(() => ({ ready: false })) : { ready: false };
      if (ready && !over) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    throw notReady(service.readyTimeoutMs);
  }

  #ended(child, code) {
    if (this.#stopping || child !== this.#child) return;
    if (Date.now() - this.#since > HEALTHY_MS) this.#wait = RESTART_MS.first;
    const error = new Error(`weir ended with ${code}${this.#lastLine ? `: ${this.#lastLine}` : ""}; starting it again in ${this.#wait} ms.`);
    this.#trouble = error.message;
    this.health?.reportFailure(error);
    this.logger?.warn(error.message);
    this.#timer = setTimeout(() => void this.#again(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, RESTART_MS.most);
  }

  async #again() {
    if (this.#stopping) return;
    this.#restarts += 1;
    const before = this.#child;
    try {
      await this.#launch();
    } catch (error) {
      if (this.#stopping) return;
      const child = this.#child;
      if (child !== before && child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      this.#ended(child, error.message);
    }
  }
}
