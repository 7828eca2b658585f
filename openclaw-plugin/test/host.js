// A stand-in for OpenClaw's side of the plugin API: keeps what the plugin registers, for the tests to call. The real
// OpenClaw is met in tests/openclaw.
export function host({ config = {}, openclaw = {} } = {}) {
  const registered = { hooks: new Map(), routes: [], services: [], warnings: [] };
  const api = {
    pluginConfig: config,
    config: openclaw,
    logger: { info() {}, debug() {}, warn: (text) => registered.warnings.push(text), error() {} },
    registerProvider: (provider) => (registered.provider = provider),
    registerService: (service) => registered.services.push(service),
    registerHttpRoute: (route) => registered.routes.push(route),
    registerCli: (registrar, options) => (registered.cli = { registrar, options }),
    on: (name, handler) => registered.hooks.set(name, handler),
  };
  return { api, registered };
}

/** Commander, as far as the plugin uses it. */
export class Program {
  commands = new Map();
  command(name) {
    const found = new Program();
    this.commands.set(name, found);
    return found;
  }
  description() {
    return this;
  }
  option() {
    return this;
  }
  argument() {
    return this;
  }
  action(run) {
    this.run = run;
    return this;
  }
}
