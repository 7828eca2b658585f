// One line for each thing that can be wrong between OpenClaw and Weir: what it is and what to do. Must never name a key
// or repeat what a server sent beyond its own short message.

/** An error whose message is meant for people as it stands. */
export class WeirTrouble extends Error {
  constructor(what, remedy) {
    super(`${what} ${remedy}`);
    this.name = "WeirTrouble";
  }
}

export const unreachable = (url, cause) =>
  new WeirTrouble(
    `Weir does not answer at ${url} (${cause}).`,
    "Start it (`weir serve`), or set plugins.entries.weir.config.service.enabled, or correct config.url.",
  );

export const wrongKey = (url) =>
  new WeirTrouble(
    `Weir at ${url} does not know this key.`,
    "Make one with `weir key new`, put its hash into weir.toml, and the key into WEIR_API_KEY or models.providers.weir.apiKey.",
  );

export const notWeir = (url, status) =>
  new WeirTrouble(`${url} answers ${status}, not as Weir does.`, "Correct plugins.entries.weir.config.url; it is the address without /v1.");

export const noBinary = (looked) =>
  new WeirTrouble(
    `No weir binary: looked at ${looked.join(", ")}.`,
    "Set plugins.entries.weir.config.service.binary to its full path, or install the platform package.",
  );

export const notExecutable = (file) =>
  new WeirTrouble(`${file} cannot be run.`, "Set plugins.entries.weir.config.service.binary to the full path of the weir binary.");

export const notLoopback = (url) =>
  new WeirTrouble(
    `The service cannot start Weir at ${url}, which is not this machine.`,
    "Set service.enabled to false for a Weir elsewhere, or config.url to http://127.0.0.1:8787.",
  );

export const endedEarly = (code, lastLine) =>
  new WeirTrouble(
    `weir ended with ${code} before it was ready${lastLine ? `: ${lastLine}` : ""}.`,
    "Run `weir check --config FILE`; it names the field and the fix.",
  );

export const notReady = (ms) =>
  new WeirTrouble(`weir was not ready after ${ms} ms.`, "A large checkpoint needs longer: raise service.readyTimeoutMs.");

export const oldHost = (missing) =>
  new WeirTrouble(`This OpenClaw is too old for the Weir plugin: it has no ${missing}.`, "Install openclaw 2026.9.0 or newer.");

export const noPermission = () =>
  new WeirTrouble(
    "Lean prompts are configured but not allowed.",
    "Set plugins.entries.weir.hooks.allowConversationAccess to true, or remove config.lean.",
  );
