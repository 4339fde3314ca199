import type { Hooks, OciSpec } from "../spec/oci.js";
import { hookStages } from "../spec/oci.js";

/** The spec with further hooks behind those that it has, stage by stage. */
export function withHooks(spec: OciSpec, added: readonly Hooks[]): OciSpec {
  const hooks: Hooks = {};
  for (const stage of hookStages) {
    const all = [spec.hooks, ...added].flatMap((part) => part?.[stage] ?? []);
    if (all.length > 0) hooks[stage] = all;
  }
  return Object.keys(hooks).length === 0 ? spec : { ...spec, hooks };
}
