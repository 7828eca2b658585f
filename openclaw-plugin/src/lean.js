// The opt-in lean prompt: replaces OpenClaw's 40 KB of system text and its tools by the operator's own line, for the
// triggers the operator names. Must never touch a turn of another provider, and does nothing without the operator's
// permission (`hooks.allowConversationAccess`), which OpenClaw itself enforces.
import { PROVIDER_ID } from "./settings.js";
import { triggerOf } from "./hints.js";

/** What `before_prompt_build` returns for a turn; `undefined` leaves it as it is. */
export function leanPrompt(lean, ctx) {
  if (ctx.modelProviderId !== undefined && ctx.modelProviderId !== PROVIDER_ID) return undefined;
  const trigger = triggerOf({ trigger: ctx.trigger, sessionKey: ctx.sessionKey, provenance: ctx.inputProvenance?.kind });
  if (!lean.triggers.includes(trigger)) return undefined;
  return { systemPrompt: lean.systemPrompt, toolsAllow: lean.keepTools };
}
