import type { runtime } from "../../cri-proto/generated/runtime.js";
import { absolutePath } from "./paths.js";

const defaultMasked = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];
const defaultReadonly = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const field = "config.linux.security_context";

/**
 * The paths that are hidden and those that cannot be written to. The kubelet always sends both lists, except for
 * `procMount: Unmasked`, which the API server allows in a user namespace alone. So two empty lists mean "none" there; in
 * the host's user namespace they are a client that says nothing, and /proc/sys must not be left writable to it.
 */
export function maskedPaths(
  context: runtime.v1.ILinuxContainerSecurityContext | null | undefined,
  { privileged, ownUserNamespace }: { privileged: boolean; ownUserNamespace: boolean },
): { masked: string[]; readonly: string[] } {
  if (privileged) return { masked: [], readonly: [] };
  const masked = (context?.masked_paths ?? []).map((path, i) => absolutePath(path, `${field}.masked_paths[${i}]`));
  const readonly = (context?.readonly_paths ?? []).map((path, i) =>
    absolutePath(path, `${field}.readonly_paths[${i}]`),
  );
  if (masked.length === 0 && readonly.length === 0 && !ownUserNamespace) {
    return { masked: [...defaultMasked], readonly: [...defaultReadonly] };
  }
  return { masked, readonly };
}
