// The two ways into OpenClaw that the documents describe, built from the very files they show (config/openclaw/).
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

import { FAILING, WEIR } from "./lab.mjs";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../..");
const shown = (name) => JSON.parse(readFileSync(path.join(root, "config/openclaw", name), "utf8"));
const MORE = [...Object.keys(FAILING), "cutting"];

/** Without a plugin: OpenClaw starts Weir itself, on demand. */
const plain = {
  name: "config only",
  async prepare(lab) {
    const config = shown("local-service.json");
    const { weir } = config.models.providers;
    weir.baseUrl = `${lab.tap}/v1`;
    weir.models.push(...MORE.map((id) => ({ ...weir.models[0], id, name: id })));
    Object.assign(weir.localService, {
      command: WEIR,
      args: ["serve", "--listen", `127.0.0.1:${lab.weirPort}`, "--config", lab.config],
      healthUrl: `${lab.weir}/readyz`,
    });
    await lab.configure(config);
  },
  async restartWith() {},
};

/** Without a plugin, on a Weir that runs already. */
export async function attach(lab) {
  const config = shown("local-service.json");
  const { weir } = config.models.providers;
  delete weir.localService;
  weir.baseUrl = `${lab.tap}/v1`;
  await lab.configure(config);
}

/** With the plugin, from its tarball; Weir runs elsewhere. After the restart the plugin starts one itself. */
const plugin = {
  name: "plugin",
  async prepare(lab) {
    const pack = path.join(root, "openclaw-plugin/pack.mjs");
    const [tarball] = execFileSync(process.execPath, [pack, "--out", lab.folder], { encoding: "utf8" }).trim().split("\n");
    await lab.configure({});
    const installed = await lab.cli("plugins", "install", `npm-pack:${tarball}`, "--force", "--accept-capabilities");
    if (installed.code !== 0) throw new Error(`the plugin could not be installed:\n${installed.all}`);
    await lab.startWeir();
    await this.write(lab, { url: lab.tap, tenant: "cell-1" });
  },
  async write(lab, config) {
    const { plugins, agents } = shown("plugin.json");
    await lab.configure({ agents, plugins: { entries: { weir: { ...plugins.entries.weir, config } } } });
  },
  async restartWith(lab, port) {
    const { config } = shown("plugin.json").plugins.entries.weir;
    const service = { ...config.service, binary: WEIR, config: lab.config };
    await this.write(lab, { url: `http://127.0.0.1:${port}`, service });
  },
};

export const setups = [plain, plugin];
