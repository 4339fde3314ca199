/**
 * Where a pod's cgroups are, below the request's cgroup_parent, which the kubelet makes, or below Berth's root for other
 * callers. With the cgroupfs driver:       and with systemd's:
 *
 *     <parent>/berth-<pod>   the monitor       <slice>/berth-<pod>.scope/monitor
 *     <parent>/<container>                     <slice>/berth-<pod>.scope/<container>
 */
import { join } from "node:path";
import { isSystemError } from "../native/binding.js";
import { isBelow, pathOfParent } from "./cgroup/parent.js";
import { type PodScope, podScope } from "./cgroup/systemd/scopes.js";
import { sliceOfParent } from "./cgroup/systemd/slices.js";
import type { Creation } from "./index-of-ids.js";
import type { SandboxNode } from "./node.js";
import type { Pod, PodSandboxConfig } from "./pod.js";
import type { LinuxResources } from "./spec/oci.js";
import { update } from "./store.js";

const mostTries = 5;

export interface PodCgroups {
  monitorCgroup: string;
  /** where the containers' are made */
  cgroupParent: string;
  /** the directories of parents that are missing, absolute; a slice's are systemd's to make and to remove */
  madeCgroupParents: string[];
  /** absent: cgroupfs */
  scope?: PodScope;
}

/** InvalidArgumentError: cgroup_parent is none, or one of the other driver's. */
export function planPodCgroups(node: SandboxNode, config: PodSandboxConfig, podId: string): PodCgroups {
  const field = "config.linux.cgroup_parent";
  const asked = config.linux?.cgroup_parent || node.cgroupRoot;
  if (node.scopes !== null) {
    const scope = podScope(podId, sliceOfParent(asked, field));
    return { scope, cgroupParent: scope.path, monitorCgroup: join(scope.path, "monitor"), madeCgroupParents: [] };
  }
  const cgroupParent = pathOfParent(asked, field, node.cgroups.hierarchies);
  const monitorCgroup = join(cgroupParent, `berth-${podId}`);
  // before they are made: an agent that is killed meanwhile has no other word of them
  const going = [...node.pods.parentsGoing].filter((directory) => isAbove(node, directory, cgroupParent));
  return {
    cgroupParent,
    monitorCgroup,
    madeCgroupParents: withParents(node.cgroups.missingParents(monitorCgroup), going),
  };
}

/**
 * Makes the cgroup in which the monitor is started. A scope has its controllers from systemd, which until then takes away
 * what it did not give.
 */
export async function makePodCgroup(node: SandboxNode, pod: Pod): Promise<void> {
  const withoutControllers = pod.record.scope !== undefined;
  // a slice's are systemd's
  const note = (directories: readonly string[]) => withoutControllers || careForParents(node, pod, directories);
  note(await node.cgroups.create(firstCgroup(pod), {}, { withoutControllers, onMissingParents: note }));
}

/** Makes the cgroup of a container that is being made, which may have outlived its pod. */
export async function makeContainerCgroup(
  node: SandboxNode,
  pod: Pod,
  creation: Creation,
  resources: LinuxResources,
): Promise<void> {
  const note = (directories: readonly string[]) => {
    if (node.pods.find(pod.record.id) !== undefined) careForParents(node, pod, directories);
    else leaveParentsTo(node, creation, directories);
  };
  note(await node.cgroups.create(creation.record.cgroupPath, resources, { onMissingParents: note }));
}

/** The monitor's first cgroup: a scope can only be made around a process, and that process stands at its top then. */
export function firstCgroup({ record }: Pod): string {
  return record.scope?.path ?? record.monitorCgroup;
}

/**
 * Starts the monitor in the pod's cgroup. Until then the cgroup is empty, and on v1 systemd tidies those away when another
 * scope of the slice ends: such a one is made again. ENODEV: it went between the opening of its file and the writing.
 */
export async function inPodCgroup<T>(node: SandboxNode, pod: Pod, spawn: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await spawn();
    } catch (error) {
      const isGone = isSystemError(error) && ["ENOENT", "ENODEV"].includes(error.errnoName);
      if (pod.record.scope === undefined || !isGone || tries === mostTries) throw error;
      await makePodCgroup(node, pod);
    }
  }
}

/** With systemd: makes the pod's scope around the monitor, and a cgroup below for it, so that controllers can be handed down. */
export async function enterScope(node: SandboxNode, pod: Pod): Promise<void> {
  const { scope, monitorCgroup } = pod.record;
  if (scope === undefined || node.scopes === null) return;
  const { namespace, name } = pod.config.metadata ?? {};
  await node.scopes.start(scope, { pid: pod.monitorPid, description: `Berth pod ${namespace}/${name}` });
  await node.cgroups.enter(monitorCgroup, pod.monitorPid);
}

/** Kills what is in the pod's own cgroup: the monitor and, with systemd, all containers. */
export async function killPodCgroup(node: SandboxNode, pod: Pod): Promise<void> {
  await node.cgroups.kill(firstCgroup(pod));
}

/** Removes the pod's own cgroup, which nothing lives in. */
export async function removePodCgroup(node: SandboxNode, pod: Pod): Promise<void> {
  await node.cgroups.remove(firstCgroup(pod));
  const { scope } = pod.record;
  if (scope !== undefined) node.scopes?.forget(scope);
}

/**
 * Removes the parents that were made for a pod which is going; those that other pods use, or are about to, become the care
 * of one of them. Its own cgroups must be gone, its record not yet, and nobody may find the pod among the others any more.
 */
export async function removeMadeParents(node: SandboxNode, pod: Pod): Promise<void> {
  // two that go at once may each find the other's in what they share: the one that is later gets that to care for
  node.pods.going.add(pod);
  await node.serial.run(parentsKey, () => {
    node.pods.going.delete(pod);
    return removeParents(node, pod.record.madeCgroupParents);
  });
}

/**
 * The same for a container whose creation has been taken back: when it has outlived its pod, it is the one that cares for
 * what it had in common with it. Its own cgroup must be gone, its record not yet.
 */
export async function endCreation(node: SandboxNode, creation: Creation): Promise<void> {
  const { creations } = node.containers;
  if (node.pods.find(creation.record.podId) !== undefined) {
    creations.delete(creation);
    return;
  }
  await node.serial.run(parentsKey, () => {
    creations.delete(creation);
    return removeParents(node, creation.record.madeCgroupParents ?? []);
  });
}

const parentsKey = "cgroup parents";

async function removeParents(node: SandboxNode, made: readonly string[]): Promise<void> {
  let left = withParents(made, []);
  const { parentsGoing } = node.pods;
  for (const directory of left) parentsGoing.add(directory);
  try {
    // Whoever was begun meanwhile may hold them: then they are its care. It may be gone again.
    for (let tries = 0; left.length > 0 && tries < mostTries; tries++) {
      left = await node.cgroups.removeParents(left.filter((directory) => !isInherited(node, directory)));
    }
  } finally {
    // one at a time
    parentsGoing.clear();
  }
}

/** Whether a pod uses the directory, or what is still being made in one that is gone: that has it to care for from now on. */
function isInherited(node: SandboxNode, directory: string): boolean {
  const { starting, going } = node.pods;
  const heir = [...starting, ...node.pods.list(), ...going].find(({ record }) =>
    isAbove(node, directory, record.cgroupParent),
  );
  if (heir !== undefined) {
    careForParents(node, heir, [directory]);
    return true;
  }
  const creation = [...node.containers.creations].find(({ record }) => isAbove(node, directory, record.cgroupPath));
  if (creation === undefined) return false;
  leaveParentsTo(node, creation, [directory]);
  return true;
}

/** Notes in the pod's record that these directories were made, for it or for others that are gone. */
function careForParents(node: SandboxNode, pod: Pod, directories: readonly string[]): void {
  const all = withParents(pod.record.madeCgroupParents, directories);
  if (all.length === pod.record.madeCgroupParents.length) return;
  update(node.store.pods, pod, { madeCgroupParents: all });
}

/** The same in the record of what is being made in a pod that is gone. */
function leaveParentsTo(node: SandboxNode, creation: Creation, directories: readonly string[]): void {
  const { madeCgroupParents = [] } = creation.record;
  const all = withParents(madeCgroupParents, directories);
  if (all.length > madeCgroupParents.length) update(node.store.containers, creation, { madeCgroupParents: all });
}

/** The outermost first. */
function withParents(some: readonly string[], others: readonly string[]): string[] {
  return [...new Set([...some, ...others])].sort((a, b) => a.length - b.length);
}

/** Whether nobody but this pod is in a cgroup that is one of its own, or is above these. */
export function hasToItself(node: SandboxNode, pod: Pod, path: string): boolean {
  if (!isBelow(path, pod.record.cgroupParent) || path === node.cgroupRoot) return false;
  const others = [...node.pods.starting, ...node.pods.list()].filter((other) => other !== pod);
  return !others.some(({ record }) => isBelow(record.cgroupParent, path));
}

/** Whether the directory is that of the cgroup, or of a parent of it. */
function isAbove(node: SandboxNode, directory: string, cgroup: string): boolean {
  return node.cgroups.hierarchies.some(({ mountPoint }) => `${join(mountPoint, cgroup)}/`.startsWith(`${directory}/`));
}
