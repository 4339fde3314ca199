/**
 * cgroups of pods and containers that are not known: below Berth's own parent, below the kubelet's, and beside those of known
 * pods. Others' are told by who lives in them, and in the kubelet's tree only what has Berth's name counts.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { CgroupManager } from "../cgroup/manager.js";
import { isYoung, type Known, type Leak } from "./leak.js";

const podName = /^berth-([0-9a-f]{64})(?:\.scope)?$/;
const containerName = /^[0-9a-f]{64}$/;
const kubeletRoots = ["/kubepods", "/kubepods.slice"];
/** kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/berth-ID.scope, and one to spare */
const mostDeep = 5;

export function leakedCgroups(
  cgroups: Pick<CgroupManager, "hierarchies" | "kill" | "remove">,
  cgroupRoot: string,
  parentsOfPods: readonly string[],
  known: Known,
): Leak[] {
  const roots = cgroups.hierarchies.map(({ mountPoint }) => mountPoint);
  const parents = new Set(parentsOfPods);
  const leaks = new Map<string, Leak>();

  const add = (path: string, what: string, ours: boolean): void => {
    const repair = async () => {
      await cgroups.kill(path);
      await cgroups.remove(path);
    };
    leaks.set(path, { kind: "cgroup", subject: path, what, ours, repair });
  };
  const look = (root: string, parent: string, deep: number): void => {
    const names = directoriesIn(join(root, parent));
    const isShared = names.some((name) => known.foreign.has(podName.exec(name)?.[1] ?? ""));
    const isOwn = isWithin(parent, cgroupRoot) || parents.has(parent);
    for (const name of names) {
      const path = join(parent, name);
      const podId = podName.exec(name)?.[1];
      if (podId !== undefined) {
        if (known.pods.has(podId) || known.foreign.has(podId)) continue;
        const ours = known.isOurs(podId);
        if (ours || isOld(join(root, path))) add(path, `the cgroup of pod ${podId}, which is not known`, ours);
      } else if (containerName.test(name) && isOwn) {
        if (known.isContainer(name) || isShared) continue;
        const ours = known.isOurContainer(name);
        if (ours || isOld(join(root, path))) add(path, "the cgroup of a container that is not known", ours);
      } else if (deep < mostDeep) {
        look(root, path, deep + 1);
      }
    }
  };
  const begin = new Set([cgroupRoot, ...kubeletRoots, ...parentsOfPods]);
  for (const root of roots) for (const parent of begin) look(root, parent, 0);
  return [...leaks.values()];
}

function isWithin(path: string, parent: string): boolean {
  return path === parent || path.startsWith(`${parent}/`);
}

function isOld(directory: string): boolean {
  const status = statSync(directory, { throwIfNoEntry: false });
  return status !== undefined && !isYoung(status);
}

function directoriesIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    // not in this hierarchy, or gone
    return [];
  }
}
