// What comes last with each set-up: the rules change under a conversation, and OpenClaw itself starts anew.
import assert from "node:assert/strict";
import { readlink } from "node:fs/promises";

import { platformPackage } from "../../openclaw-plugin/src/binary.js";
import { withPlugin } from "./hints.mjs";
import { freePort } from "./lab.mjs";

export const restarts = [
  {
    name: "Weir reloads in mid-conversation",
    async run({ lab }) {
      const first = await lab.chat("hi", { user: "reload" });
      assert.equal(first.text, "This is answer 1.");
      await lab.reload({ reason: "the rule after the reload" });
      const from = lab.tapped.length;
      const second = await lab.chat("and now?", { user: "reload" });
      assert.equal(second.text, "This is answer 2.");
      const reason = lab.calls(from).find(({ body }) => body.model === "auto").answer["x-weir-reason"];
      assert.equal(reason, "the rule after the reload");
      return { saw: second.text, recorded: "reloaded, turn two by the new rules" };
    },
  },
  {
    name: "OpenClaw restarts in mid-conversation",
    async run({ lab, setup }) {
      const first = await lab.chat("hi", { user: "stay" });
      assert.equal(first.text, "This is answer 1.");
      await lab.stopOpenclaw();
      const port = await freePort();
      await setup.restartWith(lab, port);
      await lab.startOpenclaw();
      const second = await lab.chat("and now?", { user: "stay" });
      assert.equal(second.text, "This is answer 2.", "it remembers the first turn");
      if (!withPlugin(setup)) return { saw: second.text, recorded: "history kept, Weir started again on demand" };
      const found = await (await lab.page("/plugins/weir/status")).json();
      assert.ok(found.ready && found.service.managed && found.service.pid, JSON.stringify(found));
      const program = await readlink(`/proc/${found.service.pid}/exe`);
      assert.ok(program.endsWith(`/${platformPackage()}/bin/weir`), program);
      assert.equal((await lab.page("/plugins/weir/status", { headers: { authorization: "Bearer wrong" } })).status, 401);
      await lab.stopOpenclaw();
      assert.throws(() => process.kill(found.service.pid, 0), { code: "ESRCH" }, "the service ends with OpenClaw");
      return { saw: second.text, recorded: `Weir of ${platformPackage()}, started and ended by the plugin` };
    },
  },
];
