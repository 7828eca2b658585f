// Three OpenClaw, one for each tenant of a host, on one Weir: each with a state and a key of its own. Must never share
// anything between them but Weir.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";

import { Lab, until, WEIR } from "./lab.mjs";
import { attach } from "./setups.mjs";

const CELLS = ["red", "green", "blue"];
/** The one that reaches its limit of requests, and the one that has spent its money after a few turns of an agent. */
const LIMITED = "blue";
const SPENT = "green";

/** A key and its hash, as an operator makes them. */
function keyPair() {
  const { stdout, stderr } = spawnSync(WEIR, ["key", "new"], { encoding: "utf8" });
  const printed = stdout + stderr;
  return { key: /weir_[\w-]+/u.exec(printed)[0], hash: /sha256:[0-9a-f]{64}/u.exec(printed)[0] };
}

export const cells = {
  name: "three cells",
  async open(programs) {
    const pairs = Object.fromEntries(CELLS.map((name) => [name, keyPair()]));
    const limits = (name) => `requests_per_minute = ${name === LIMITED ? 2 : 600}\nmoney_per_day = ${name === SPENT ? 1.0 : 50.0}\n`;
    const tenants = CELLS.map((name) => `[[tenant]]\nname = "${name}"\nkeys = [{ hash = "${pairs[name].hash}" }]\n${limits(name)}`);
    const host = await Lab.open(programs, tenants.join("\n"));
    await host.startWeir();
    host.cells = {};
    for (const name of CELLS) {
      const cell = (host.cells[name] = await host.beside(pairs[name].key));
      await attach(cell);
    }
    return host;
  },
  start: (host) => Promise.all(Object.values(host.cells).map((cell) => cell.startOpenclaw())),
  async close(host) {
    await Promise.all(Object.values(host.cells ?? {}).map((cell) => cell.close()));
    await host.close();
  },
};

const linesOf = async (lab, tenant) => (await lab.requestLog()).filter((line) => line.tenant === tenant);

export const shared = [
  {
    name: "all at once, each by its own name",
    async run({ lab }) {
      const answers = await Promise.all(CELLS.map((name) => lab.cells[name].chat("hi", { user: "ann" })));
      for (const { status, text } of answers) assert.deepEqual([status, text], [200, "This is answer 1."]);
      for (const name of CELLS) {
        await until(`a line of ${name}`, async () => (await linesOf(lab, name)).some(({ backend, outcome }) => backend === "script" && outcome === "finished"));
        assert.ok((await lab.metric("weir_tenant_requests_total", { tenant: name })) > 0, name);
      }
      return { saw: "three answers", recorded: "a line and a count for each tenant" };
    },
  },
  {
    name: "nobody sees another's cache",
    async run({ lab }) {
      const known = async (name, user) => {
        const from = (await linesOf(lab, name)).length;
        const { status } = await lab.cells[name].chat("Sort these words: lemon, apple, mirror", { user });
        assert.equal(status, 200);
        const line = await until("its line", async () => (await linesOf(lab, name)).slice(from).find(({ plan }) => plan?.rule === "short"));
        return line.usage.cached_tokens;
      };
      const own = [await known("red", "one"), await known("red", "two")];
      const others = [await known("green", "one"), await known("green", "two")];
      assert.ok(own[1] >= 32, `red knew ${own[1]} tokens`);
      assert.equal(others[0], 0, "green knew nothing of red's");
      assert.ok(others[1] >= 32, `green knew ${others[1]} tokens`);
      return { saw: "four answers", recorded: `cached tokens: red ${own}, green ${others}` };
    },
  },
  {
    name: "one reaches its limit, the others do not",
    async run({ lab }) {
      const limited = async (name) => (await linesOf(lab, name)).filter(({ outcome }) => outcome === "limit_reached").length;
      const leaving = new AbortController();
      const asking = [1, 2, 3].map((user) => lab.cells[LIMITED].chat("hi", { user: `l${user}`, signal: leaving.signal }).catch(() => {}));
      await until("the limit", async () => (await limited(LIMITED)) > 0);
      const others = CELLS.filter((name) => name !== LIMITED);
      for (const name of others) assert.equal((await lab.cells[name].chat("hi", { user: "still" })).status, 200);
      leaving.abort();
      await Promise.all(asking);
      for (const name of others) assert.equal(await limited(name), 0, name);
      // What a cell is told of limits is its own account: blue's is empty, red's and green's have hardly been touched.
      for (const name of CELLS) {
        const call = lab.calls().findLast(({ headers, answer }) => headers.authorization.endsWith(lab.cells[name].key) && answer["x-ratelimit-limit-requests"]);
        const [most, left] = ["limit", "remaining"].map((what) => Number(call.answer[`x-ratelimit-${what}-requests`]));
        assert.ok(name === LIMITED ? most === 2 && left === 0 : most === 600 && left > 500, `${name}: ${left} of ${most}`);
      }
      return { saw: "two answered, one told to wait", recorded: `limit_reached ${await limited(LIMITED)} times, only ${LIMITED}` };
    },
  },
  {
    name: "one has spent its money, the others go on",
    async run({ lab }) {
      const denied = () => lab.metric("weir_denied_total", { tenant: SPENT, by: "money_per_day" });
      const leaving = new AbortController();
      let turns = 0;
      for (; turns < 24 && (await denied()) === 0; turns += 1) {
        let over = false;
        void lab.cells[SPENT].chat("hi", { user: `m${turns}`, signal: leaving.signal }).catch(() => {}).finally(() => (over = true));
        // OpenClaw waits for as long as it is told to, and that is until midnight: what Weir did is looked at, not its end.
        await until("an answer or the limit", async () => over || (await denied()) > 0);
      }
      assert.ok((await denied()) > 0 && turns > 0, `${turns} turns, and nothing was denied`);
      const spent = (await linesOf(lab, SPENT)).filter(({ backend, outcome }) => backend === "script" && outcome === "finished");
      for (const name of CELLS.filter((name) => name !== SPENT)) {
        assert.equal(await lab.metric("weir_denied_total", { tenant: name, by: "money_per_day" }), 0, name);
      }
      const red = await lab.cells.red.chat("hi", { user: "rich" });
      assert.deepEqual([red.status, red.text], [200, "This is answer 1."]);
      leaving.abort();
      return { saw: `${SPENT} told to wait, red answered`, recorded: `money_per_day: ${SPENT} denied after ${spent.length} paid answers` };
    },
  },
  {
    name: "logs: the right tenant, no key",
    async run({ lab }) {
      const lines = await lab.requestLog();
      const names = [...new Set(lines.map(({ tenant }) => tenant))].sort();
      assert.deepEqual(names, [...CELLS].sort());
      const pages = [JSON.stringify(lines), await readFile(lab.weirLog, "utf8"), await (await fetch(`${lab.weir}/metrics`)).text()];
      for (const { key } of Object.values(lab.cells)) for (const page of pages) assert.ok(!page.includes(key), "a key was written");
      return { saw: "-", recorded: `${lines.length} lines of ${names.join(", ")}; no key in log, request log or metrics` };
    },
  },
];
