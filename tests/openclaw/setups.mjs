// The two ways into OpenClaw that the documents describe, built from the very files they show (config/openclaw/).
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

import { Lab, WEIR } from "./lab.mjs";
import { FAILING } from "./weir_config.mjs";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../..");
const shown = (name) => JSON.parse(readFileSync(path.join(root, "config/openclaw", name), "utf8"));
const MORE = [...Object.keys(FAILING), "cutting"];

/** How a set-up with one OpenClaw starts and ends. */
export const oneGateway = { start: (lab) => lab.startOpenclaw(), close: (lab) => lab.close() };

/** Without a plugin: OpenClaw starts Weir itself, on demand. */
const plain = {
  name: "config only",
  ...oneGateway,
  async open(programs) {
    const lab = await Lab.open(programs);
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
    return lab;
  },
  async restartWith() {},
};

/** Without a plugin, on a Weir that runs already and asks for keys. */
export async function attach(lab) {
  const config = shown("local-service.json");
  const { weir } = config.models.providers;
  delete weir.localService;
  weir.apiKey = "${WEIR_API_KEY}";
  weir.baseUrl = `${lab.tap}/v1`;
  await lab.configure(config);
}

/** With the plugin, from the tarballs; Weir runs elsewhere. After the restart the plugin starts the one of its package. */
const plugin = {
  name: "plugin",
  ...oneGateway,
  async open(programs) {
    const lab = await Lab.open(programs);
    const pack = path.join(root, "openclaw-plugin/pack.mjs");
    const packed = execFileSync(process.execPath, [pack, "--out", lab.folder, "--binary", WEIR], { encoding: "utf8" });
    const packages = path.join(lab.folder, "packages");
    const npm = ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", packages];
    execFileSync("npm", [...npm, ...packed.trim().split("\n")], { stdio: "pipe" });
    await lab.configure({});
    const plugin = path.join(packages, "node_modules/@weir/openclaw");
    const installed = await lab.cli("plugins", "install", "--link", plugin, "--force", "--accept-capabilities");
    if (installed.code !== 0) throw new Error(`the plugin could not be installed:\n${installed.all}`);
    await lab.startWeir();
    await this.write(lab, { url: lab.tap, tenant: "cell-1" });
    return lab;
  },
  async write(lab, config) {
    const { plugins, agents } = shown("plugin.json");
    await lab.configure({ agents, plugins: { entries: { weir: { ...plugins.entries.weir, config } } } });
  },
  async restartWith(lab, port) {
    const { config } = shown("plugin.json").plugins.entries.weir;
    const { binary: _packaged, ...service } = { ...config.service, config: lab.config };
    await this.write(lab, { url: `http://127.0.0.1:${port}`, service });
  },
};

export const setups = [plain, plugin];
