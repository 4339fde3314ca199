/** Who metrics are about: containers, pods' sandboxes (their network) and pods' own cgroups, with all that is known of each. */

import { statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import type { LinkStatistics } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { Pod } from "../sandbox/pod.js";
import type { DiskUsage } from "../sandbox/rootfs/snapshots.js";
import { containerCgroups, type ObservedNode, podCgroups, podNetworks, podsWithOwnCgroup } from "./collect.js";
import { type DeviceIo, deviceName, readDeviceIo } from "./device-io.js";
import { type HugePages, readHugePages } from "./huge-pages.js";
import { type ProcessCounts, processesOf } from "./processes.js";

export interface DiskSpace {
  device: string;
  bytes: number;
  inodes: number;
  freeInodes: number;
}

export interface Subject {
  readonly pod: Pod;
  /** absent: the pod itself */
  readonly container?: Container | undefined;
  /** the values of subjectLabels, in their order */
  readonly labels: readonly string[];
  readonly cgroup?: CgroupSample | undefined;
  readonly links?: readonly LinkStatistics[] | undefined;
  readonly written?: DiskUsage | undefined;
  readonly space?: DiskSpace | undefined;
  readonly io?: readonly DeviceIo[] | undefined;
  readonly processes?: ProcessCounts | undefined;
  /** of each size that the host has */
  readonly hugePages?: readonly HugePages[] | undefined;
}

/** `id` is the cgroup's path, `name` the CRI's id, `container` the name in the pod's spec (empty for the pod itself). */
export const subjectLabels = ["container", "id", "image", "name", "namespace", "pod"] as const;

/** A pod that may make interfaces could make thousands, each with eight series. */
const mostLinks = 32;

/** Running containers and ready pods; what ended meanwhile is left out. */
export async function subjectsOf(node: ObservedNode): Promise<Subject[]> {
  const running = node.containers.list().filter(isRunning);
  const paths = running.map(({ record }) => record.cgroupPath);
  const inTurn = turns();
  const [[cgroups, processes], pods, networks, space, ios, written, hugePages] = await Promise.all([
    inTurn(() => cgroupsAndProcesses(node, running)),
    inTurn(() => podCgroups.of(node, podsWithOwnCgroup(node))),
    inTurn(() => podNetworks.ofAll(node)),
    diskSpace(node.snapshots.directory),
    inTurn(() => readDeviceIo(node.cgroups, paths)),
    inTurn(() =>
      Promise.all(running.map(({ record }) => node.snapshots.writableLayerUsage(record.id).catch(() => undefined))),
    ),
    inTurn(() => readHugePages(node.cgroups, paths)),
  ]);
  const podsById = new Map(node.pods.list().map((pod) => [pod.record.id, pod]));
  const subjects: Subject[] = [];
  for (const [index, container] of running.entries()) {
    const pod = podsById.get(container.record.podId);
    const cgroup = cgroups.get(container);
    if (pod === undefined || cgroup === undefined || !isRunning(container)) continue;
    subjects.push({
      pod,
      container,
      labels: containerLabels(pod, container),
      cgroup,
      written: written[index],
      space,
      io: ios.get(container.record.cgroupPath),
      processes: processes.get(container),
      hugePages: hugePages.get(container.record.cgroupPath),
    });
  }
  for (const [pod, { path, whole, cgroup }] of pods) {
    // the pod's own cgroup counts all of it; a monitor's alone would pass for that
    if (whole) subjects.push({ pod, labels: podLabels(pod, path, ""), cgroup });
  }
  for (const [pod, { links }] of networks) {
    const labels = podLabels(pod, pod.record.monitorCgroup, pod.record.id);
    subjects.push({ pod, labels, links: links.slice(0, mostLinks) });
  }
  return subjects;
}

async function cgroupsAndProcesses(node: ObservedNode, running: readonly Container[]) {
  const cgroups = await containerCgroups.ofAll(node);
  return [cgroups, await processesOf(node, running, cgroups)] as const;
}

/** Each reading is begun in a turn of the event loop of its own: to hand over the names of some hundreds takes its time. */
function turns(): <T>(begin: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (begin) => {
    const begun = last.then(begin);
    last = last.then(() => setImmediate());
    return begun;
  };
}

function isRunning({ record }: Container): boolean {
  return record.phase === "running";
}

const knownLabels = new WeakMap<object, Map<string, readonly string[]>>();

/** The same list each time, by which texts made from it are found again. `variant`: what of a pod it is about. */
function remembered(about: object, variant: string, make: () => readonly string[]): readonly string[] {
  const variants = knownLabels.get(about) ?? new Map<string, readonly string[]>();
  knownLabels.set(about, variants);
  const labels = variants.get(variant) ?? make();
  variants.set(variant, labels);
  return labels;
}

function containerLabels(pod: Pod, container: Container): readonly string[] {
  return remembered(container, "", () => {
    const { record, config } = container;
    const { metadata, image } = config;
    const shown = image?.user_specified_image || image?.image || record.imageId;
    const { namespace, name } = pod.config.metadata ?? {};
    return [metadata?.name ?? "", record.cgroupPath, shown, record.id, namespace ?? "", name ?? ""];
  });
}

/** As in the kubelet's cAdvisor, `container` and `image` are empty; `name` is the sandbox where its network is told. */
function podLabels(pod: Pod, id: string, sandbox: string): readonly string[] {
  return remembered(pod, `${id} ${sandbox}`, () => {
    const { namespace, name } = pod.config.metadata ?? {};
    return ["", id, "", sandbox, namespace ?? "", name ?? ""];
  });
}

async function diskSpace(directory: string): Promise<DiskSpace | undefined> {
  try {
    const { bsize, blocks, files, ffree } = await statfs(directory);
    const { dev } = statSync(directory);
    // glibc's gnu_dev_major and gnu_dev_minor
    const major = Math.floor(dev / 256) % 4096;
    const minor = (dev % 256) + Math.floor(dev / 2 ** 20) * 256;
    return { device: deviceName(`${major}:${minor}`), bytes: bsize * blocks, inodes: files, freeInodes: ffree };
  } catch {
    return undefined;
  }
}
