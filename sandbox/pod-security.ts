/**
 * Who a pod's own processes are and what confines them. Berth's pods have no process of the request's making, so that
 * none of it is applied; what cannot be is refused nevertheless.
 */
import { checkPodIdentity } from "./identity.js";
import type { PodSandboxConfig } from "./pod.js";
import { apparmorChoice } from "./spec/apparmor.js";
import { seccompChoice } from "./spec/seccomp.js";

/** InvalidArgumentError names the field that cannot be as it is. */
export function checkPodSecurity(config: PodSandboxConfig): void {
  const context = config.linux?.security_context;
  if (!context) return;
  checkPodIdentity(context);
  // that containers may be privileged does not make these good
  seccompChoice({ ...context, privileged: false });
  apparmorChoice({ apparmor: context.apparmor ?? null });
}
