/** Which SELinux labels pods and containers get. */
import { randomInt } from "node:crypto";
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError, ResourceExhaustedError } from "../errors.js";
import type { Observer } from "../observer.js";
import type { PodSandboxConfig } from "../pod.js";
import {
  askedContext,
  formatContext,
  mergeContexts,
  parseContext,
  type SelinuxContext,
  type SelinuxLabels,
} from "../spec/selinux.js";
import type { Selinux } from "./selinux.js";

const { NamespaceMode } = runtime.v1;

const categories = 1024;
/** A node has some hundred pods, of half a million pairs. */
const maxTries = 10_000;

/**
 * The labels of a pod: those that it asks for, else the policy's for containers. A level that is not asked for is a pair of
 * categories that no other pod has, so that pods cannot reach each other's files. Undefined: no labels, because the kernel
 * has no SELinux or its policy no containers; so are the processes of a pod that sees the host's, which could be told
 * nothing about them otherwise.
 */
export function podLabels(
  selinux: Selinux,
  config: PodSandboxConfig,
  others: Iterable<SelinuxLabels>,
): SelinuxLabels | undefined {
  const context = config.linux?.security_context;
  const field = "config.linux.security_context.selinux_options";
  const asked = askedContext(context?.selinux_options, field);
  if (asked === undefined) {
    const { pid, ipc } = context?.namespace_options ?? {};
    const sharesWithHost = pid === NamespaceMode.NODE || ipc === NamespaceMode.NODE;
    if (!selinux.enabled || selinux.problem !== "" || sharesWithHost) return undefined;
  }
  if (!selinux.enabled) return undefined;
  const level = asked?.level || levelOfItsOwn(selinux, others);
  const none = { user: "", role: "", type: "", level: "" };
  return checkedLabels(selinux, mergeContexts({ ...(asked ?? none), level }, selinux.process), field);
}

/** The labels of a container: the pod's, but for what it asks for itself. A privileged one has those alone. */
export function containerLabels(
  selinux: Selinux,
  config: ContainerConfig,
  ofPod: SelinuxLabels | undefined,
): SelinuxLabels | undefined {
  const context = config.linux?.security_context;
  const field = "config.linux.security_context.selinux_options";
  const asked = askedContext(context?.selinux_options, field);
  if (asked === undefined) return context?.privileged ? undefined : ofPod;
  if (!selinux.enabled) return undefined;
  const defaults = parseContext(ofPod?.process ?? "") ?? selinux.process;
  return checkedLabels(selinux, mergeContexts(asked, defaults), field);
}

/**
 * Tells, once, that labels are asked for where the kernel has no SELinux. They are no error: many published pods name one for
 * the nodes that do have it, and Kubernetes says that the field has no effect on others.
 */
export function tellOfIgnoredLabels(
  observer: Observer,
  { enabled }: Selinux,
  asked: runtime.v1.ISELinuxOption | null | undefined,
): void {
  if (enabled || !asked) return;
  observer.limitation(
    "SELinux labels",
    "SELinux labels that pods ask for are not applied: this host's kernel has no SELinux with a policy",
  );
}

function checkedLabels(selinux: Selinux, process: SelinuxContext, field: string): SelinuxLabels {
  const { file } = selinux;
  const labels = {
    process: formatContext(process),
    ...(file !== undefined && { mount: formatContext({ ...file, level: file.level && process.level }) }),
  };
  for (const label of Object.values(labels)) {
    if (selinux.isValid(label)) continue;
    throw new InvalidArgumentError(`${field}: ${JSON.stringify(label)} is no label of this host's policy`);
  }
  return labels;
}

function levelOfItsOwn(selinux: Selinux, others: Iterable<SelinuxLabels>): string {
  const { level } = selinux.process;
  if (level === "") return "";
  const [sensitivity = "s0"] = level.split(/[-:]/);
  const taken = new Set([...others].map(({ process }) => parseContext(process)?.level));
  for (let tries = 0; tries < maxTries; tries++) {
    const [one, two] = [randomInt(categories), randomInt(categories)].sort((a, b) => a - b);
    const pair = `${sensitivity}:c${one},c${two}`;
    if (one !== two && !taken.has(pair)) return pair;
  }
  throw new ResourceExhaustedError("SELinux: every pair of categories belongs to a pod");
}
