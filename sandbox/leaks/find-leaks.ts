/**
 * Everything of pods and containers on this machine that no record speaks of, the order being that of taking it away. The
 * start of an agent takes away what is its own for certain (recover.ts); the rest waits for `berth leaks --repair`.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { monitorProcesses } from "../monitor-processes.js";
import type { SandboxNode } from "../node.js";
import { leakedCgroups } from "./cgroups.js";
import type { Known, Leak } from "./leak.js";
import { leakedMounts, leakedPins, leakedRootfs, leakedRunDirectories, namesIn } from "./names.js";
import { leakedProcesses } from "./processes.js";

/** What pods are there changes while it is looked: what is no leak any more after so long was somebody's. */
const lookAgainMs = 500;

/** Looks twice, so that what comes or goes meanwhile is none. */
export async function findLeaks(node: SandboxNode): Promise<Leak[]> {
  const first = await lookForLeaks(node);
  if (first.length === 0) return [];
  await pause(lookAgainMs);
  const seen = new Set(first.map(nameOf));
  return (await lookForLeaks(node)).filter((leak) => seen.has(nameOf(leak)));
}

/** What is this agent's for certain. It looks once: for a node that does nothing yet. */
export async function ownLeaks(node: SandboxNode): Promise<Leak[]> {
  return (await lookForLeaks(node, true)).filter(({ ours }) => ours);
}

async function lookForLeaks(node: SandboxNode, oursOnly = false): Promise<Leak[]> {
  const pods = join(node.paths.run, "pods");
  // a walk through /proc takes long on a full machine, and a start looks for monitors where a directory is somebody's
  const walks = !oursOnly || (await hasStrangeDirectory(node));
  const all = walks ? monitorProcesses() : [];
  const own = all.filter(({ podId, directory }) => directory === join(pods, podId));
  const ownIds = new Set(own.map(({ podId }) => podId));
  const known: Known = {
    pods: new Set([...node.pods.list(), ...node.pods.starting].map(({ record }) => record.id)),
    isContainer: (id) => node.store.containers.has(id),
    isOurs: (id) => ownIds.has(id) || existsSync(join(pods, id)),
    isOurContainer: (id) => existsSync(join(node.snapshots.directory, id)),
    foreign: new Set(all.map(({ podId }) => podId).filter((id) => !ownIds.has(id))),
  };
  const pending = new Set(node.network.pendingRemovals().map(({ podId }) => podId));
  const parents = [...new Set(node.pods.list().map(({ record }) => record.cgroupParent))];
  const runDirectories = leakedRunDirectories(node.paths, known);
  const rootfs = await leakedRootfs(node.snapshots, known.isContainer);
  const processes = leakedProcesses(own, known);
  return [
    ...processes,
    ...leakedPins(node.paths, known, pending),
    ...((await node.network.leaks?.(known)) ?? []),
    ...(walks ? leakedCgroups(node.cgroups, node.cgroupRoot, parents, known) : []),
    ...leakedMounts(node.paths, known),
    ...runDirectories,
    ...rootfs,
  ];
}

/** Whether a directory of pods or of containers has one that is not known. */
async function hasStrangeDirectory({ paths, pods, store, snapshots }: SandboxNode): Promise<boolean> {
  const known = new Set(pods.list().map(({ record }) => record.id));
  if (namesIn(join(paths.run, "pods")).some((name) => !known.has(name))) return true;
  return (await snapshots.listRootfs()).some((id) => !store.containers.has(id));
}

function nameOf({ kind, subject }: Leak): string {
  return `${kind} ${subject}`;
}
