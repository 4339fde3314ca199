/**
 * A container.
 *
 *            createContainer          startContainer           its init ends
 *   (none) ──────────────▶ created ─────────────▶ running ───────────────▶ exited ──▶ (removed)
 *                             │ startContainer failed, or the pod ended ──────▲
 */
import type { runtime } from "../cri-proto/generated/runtime.js";
import { FailedPreconditionError } from "./errors.js";
import type { Latch } from "./latch.js";
import type { ReflectedMount } from "./reflected-mounts.js";
import type { OciSpec } from "./spec/oci.js";

export type ContainerConfig = runtime.v1.IContainerConfig;

/** "creating" is an intent: it is only ever seen in the store, by a later agent that has to take the container away. */
export type ContainerPhase = "creating" | "created" | "running" | "exited";

const transitions: Record<ContainerPhase, readonly ContainerPhase[]> = {
  creating: ["created"],
  created: ["running", "exited"],
  running: ["exited"],
  exited: [],
};

/** What is stored of a container. Times are nanoseconds since the epoch, decimal; "0": not yet. */
export interface ContainerRecord {
  version: 1;
  id: string;
  podId: string;
  phase: ContainerPhase;
  /** the request's config, as protobuf JSON objects (int64 as decimal strings, bytes as base64) */
  config: Record<string, unknown>;
  /** "sha256:..." of the image that it was made from */
  imageId: string;
  /** chain ids of its root file system, bottom first: they are in use */
  layers: string[];
  /** chain ids of its image volumes by image id, bottom first: they are in use, too. Absent: it has none */
  volumeLayers?: Record<string, string[]>;
  /** the OCI runtime spec that it runs, without linux.seccomp (found again from the config when an exec needs it); null
   *  while it is being made, unless it has poststop hooks */
  spec: OciSpec | null;
  cgroupPath: string;
  /** its cgroup's parents that were left to it: a creation that outlives its pod takes them away. Absent: there are none */
  madeCgroupParents?: string[];
  /** on the host, the outermost first; taken back, where they are empty, when the creation does not come to its end */
  madeDirectories?: string[];
  /** its own mounts' images on the host, cleared at its end; absent: there are none */
  reflectedMounts?: ReflectedMount[];
  /** absolute; empty: no log */
  logPath: string;
  createdAt: string;
  startedAt: string;
  finishedAt: string;
  exitCode: number;
  /** "Completed", "Error", "OOMKilled", "StartError"; empty until exited */
  reason: string;
  message: string;
  /** the CRI's Signal number of its effective stop signal */
  stopSignal: number;
}

export interface Container {
  record: ContainerRecord;
  readonly config: ContainerConfig;
  /** host pid of its init; 0 when it does not run */
  pid: number;
  /** what it was, or is: who hears of a process that has ended already looks for it here */
  startedPid?: number;
  /** while it is being started, or is about to be: opens when that is done, or has failed */
  starting?: Latch | undefined;
  /** its start was asked for by an earlier agent: opens when its monitor tells that it is done */
  startAwaited?: Latch;
  /** settles when the phase becomes "exited" */
  readonly ended: Latch;
}

/** Chain ids of the layers that the container needs as long as its record is there. */
export function layersInUse(record: ContainerRecord): string[] {
  return [...record.layers, ...Object.values(record.volumeLayers ?? {}).flat()];
}

/** Checks a change of phase against the diagram above. FailedPreconditionError says what was tried. */
export function checkContainerTransition(record: ContainerRecord, to: ContainerPhase): void {
  if (!transitions[record.phase].includes(to)) {
    throw new FailedPreconditionError(`container ${record.id} is ${record.phase}; it cannot become ${to}`);
  }
}
