// The tarballs as npm installs them: what is in them, and that the plugin finds the binary of its platform package.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";

import { platformPackage } from "../src/binary.js";

const pack = path.resolve(new URL("../pack.mjs", import.meta.url).pathname);

test("both tarballs, installed without a network", { timeout: 240_000 }, async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "weir-pack-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  let binary = process.env.WEIR_BIN;
  if (!binary) {
    binary = path.join(folder, "weir");
    writeFileSync(binary, "#!/bin/sh\necho weir 0.0.0\n");
    chmodSync(binary, 0o644); // the pack script makes it executable
  }
  const run = (program, args) => execFileSync(program, args, { cwd: folder, encoding: "utf8", stdio: "pipe" });
  const tarballs = run(process.execPath, [pack, "--out", folder, "--binary", binary]).trim().split("\n");
  assert.equal(tarballs.length, 2);
  writeFileSync(path.join(folder, "package.json"), '{"private":true}');
  run("npm", ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", ...tarballs]);
  const installed = path.join(folder, "node_modules/@weir/openclaw");
  for (const name of ["index.js", "openclaw.plugin.json", "README.md", "LICENSE", "src/service.js"]) {
    assert.ok(existsSync(path.join(installed, name)), name);
  }
  assert.ok(!existsSync(path.join(installed, "test")), "tests stay at home");
  const { findBinary } = await import(path.join(installed, "src/binary.js"));
  const found = findBinary(undefined, { env: { PATH: "" } });
  assert.equal(found, path.join(folder, "node_modules", platformPackage(), "bin/weir"));
  assert.equal(statSync(found).mode & 0o111, 0o111);
  assert.match(execFileSync(found, ["--version"], { encoding: "utf8" }), /^weir /);
  assert.equal((await import(path.join(installed, "index.js"))).default.id, "weir");
});
