// The service with a program of a few lines in Weir's place: start, readiness, restart, SIGTERM. The real binary is met
// at the end, where WEIR_BIN names it.
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";

import { findBinary, platformPackage } from "../src/binary.js";
import { WeirService } from "../src/service.js";
import { settingsFrom } from "../src/settings.js";
import { Weir } from "../src/weir.js";

const limit = { timeout: 60_000 };

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A program that takes `weir serve --listen HOST:PORT` and runs `body`. */
async function program(t, body) {
  const folder = await mkdtemp(path.join(tmpdir(), "weir-plugin-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "weir");
  const start = `#!${process.execPath}\nconst [host, port] = process.argv[process.argv.indexOf("--listen") + 1].split(":");\n`;
  await writeFile(file, start + body);
  await chmod(file, 0o755);
  return file;
}

const SERVES = `require("node:http").createServer((q, r) => {
  if (q.url === "/die") process.exit(3);
  r.writeHead(200).end("ready");
}).listen(+port, host, () => console.error("listens on"));\n`;

async function service(t, binary, more = {}) {
  const url = `http://127.0.0.1:${await freePort()}`;
  const made = new WeirService(settingsFrom({ url, service: { enabled: true, binary, stopTimeoutMs: 500, ...more } }));
  t.after(() => made.stop());
  return { made, url };
}

test("starts, is ready, and ends on SIGTERM", limit, async (t) => {
  const { made, url } = await service(t, await program(t, SERVES));
  await made.start();
  assert.ok((await new Weir(url).readiness()).ready);
  const { pid } = made.state;
  await made.stop();
  assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  await made.start();
  assert.notEqual(made.state.pid, pid, "a reload stops and starts");
});

test("one that ignores SIGTERM is ended all the same", limit, async (t) => {
  const { made } = await service(t, await program(t, `process.on("SIGTERM", () => {});\n${SERVES}`));
  await made.start();
  const { pid } = made.state;
  await made.stop();
  assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
});

test("one that dies is started again, and that is reported", limit, async (t) => {
  const { made, url } = await service(t, await program(t, SERVES));
  const reports = [];
  const recovered = new Promise((resolve) => {
    const clearFailure = () => reports.length > 0 && resolve();
    void made.start({ serviceHealth: { reportFailure: (error) => reports.push(error.message), clearFailure } }).then(() =>
      fetch(`${url}/die`).catch(() => {}),
    );
  });
  await recovered;
  assert.match(reports[0], /ended with 3/);
  assert.equal(made.state.restarts, 1);
  assert.ok((await new Weir(url).readiness()).ready);
});

test("what cannot start says why in one line", limit, async (t) => {
  const broken = await service(t, await program(t, 'console.error("weir: unknown key `listn`");process.exit(1);\n'));
  await assert.rejects(broken.made.start(), /ended with 1 before it was ready: weir: unknown key `listn`.*weir check/);
  const deaf = await service(t, await program(t, "setInterval(() => {}, 1000);\n"), { readyTimeoutMs: 200 });
  await assert.rejects(deaf.made.start(), /not ready after 200 ms/);
  assert.throws(() => process.kill(deaf.made.state.pid, 0), { code: "ESRCH" }, "and leaves nothing behind");
  const missing = await service(t, "/nowhere/weir");
  await assert.rejects(missing.made.start(), /cannot be run/);
  const far = new WeirService(settingsFrom({ url: "http://gpu.example:8787", service: { enabled: true } }));
  await assert.rejects(far.start(), /not this machine/);
});

test("another program on the port does not pass for ours", limit, async (t) => {
  const { made } = await service(t, await program(t, "setTimeout(() => process.exit(1), 300);\n"));
  const other = createHttpServer((_request, response) => response.end("ready"));
  const { port, hostname } = new URL(made.settings.url);
  await new Promise((resolve) => other.listen(+port, hostname, resolve));
  t.after(() => other.close());
  await assert.rejects(made.start(), /ended with 1 before it was ready/);
});

test("a Weir elsewhere that is away is reported, and OpenClaw starts all the same", limit, async () => {
  const failures = [];
  const elsewhere = new WeirService(settingsFrom({ url: "http://127.0.0.1:9" }));
  await elsewhere.start({ serviceHealth: { reportFailure: (error) => failures.push(error.message), clearFailure() {} } });
  assert.match(failures[0], /does not answer/);
});

test("the binary is looked for where the README says", async (t) => {
  const file = await program(t, "");
  const nowhere = { resolve: () => undefined };
  assert.equal(findBinary(file), file);
  assert.equal(findBinary(undefined, { env: { PATH: path.dirname(file) }, ...nowhere }), file);
  assert.throws(() => findBinary(undefined, { env: { PATH: "" }, ...nowhere }), /No weir binary.*service\.binary/);
  assert.equal(platformPackage("linux", "x64"), "@weir/openclaw-linux-x64");
});

test("the real binary", { ...limit, skip: process.env.WEIR_BIN ? false : "WEIR_BIN is not set" }, async (t) => {
  const { made, url } = await service(t, process.env.WEIR_BIN, { stopTimeoutMs: 30_000 });
  await made.start();
  const ids = (await new Weir(url).models()).map(({ id }) => id);
  assert.deepEqual(ids.slice(0, 3), ["auto", "diffusion", "ar"]);
  const { ran, plan } = await new Weir(url).explain("Sort these words: lemon, apple, mirror", "auto");
  assert.ok(ran ? plan.backend : plan, "says who");
  await made.stop();
});
