/**
 * A pod sandbox.
 *
 *            startPod                stopPod                removePod
 *   (none) ──────────▶ starting ──▶ ready ──────▶ stopping ──▶ stopped ──────────▶ (none)
 *                         │           │ monitor lost ▲            ▲
 *                         └─ failed ──┼──────────────┴── recover ─┘
 *                            (undone) ▼
 */
import type { runtime } from "../cri-proto/generated/runtime.js";
import type { PodScope } from "./cgroup/systemd/scopes.js";
import { FailedPreconditionError } from "./errors.js";
import type { NetworkLease } from "./network/provider.js";
import type { PodNames } from "./observer.js";
import type { SelinuxLabels } from "./spec/selinux.js";

export type PodSandboxConfig = runtime.v1.IPodSandboxConfig;

export type PodPhase = "starting" | "ready" | "stopping" | "stopped";

const transitions: Record<PodPhase, readonly PodPhase[]> = {
  starting: ["ready", "stopping"],
  ready: ["stopping"],
  stopping: ["stopped"],
  stopped: [],
};

/** What is stored of a pod: everything that a later agent needs to serve it or to take it away. */
export interface PodRecord {
  version: 1;
  /** 64 hexadecimal digits */
  id: string;
  phase: PodPhase;
  /** the request's config, as protobuf JSON objects (int64 as decimal strings) */
  config: Record<string, unknown>;
  runtimeHandler: string;
  /** nanoseconds since the epoch, decimal */
  createdAt: string;
  /** the kernel's boot id: in another boot nothing of the pod lives */
  bootId: string;
  /** the systemd scope around all of the pod's cgroups; absent: made without systemd */
  scope?: PodScope;
  /** cgroup path of the monitor */
  monitorCgroup: string;
  /** where the containers' cgroups are made */
  cgroupParent: string;
  /** parents of the cgroup that were made for this pod, the outermost first; removed with it when they are empty */
  madeCgroupParents: string[];
  /** on the host, the outermost first; taken back, where they are empty, when the pod does not become ready */
  madeDirectories?: string[];
  /** /run/netns/berth-<id>; empty with host network */
  netnsPath: string;
  /** null: host network, or already detached */
  network: NetworkLease | null;
  /** its containers' labels; absent: SELinux is off, or labels nothing here */
  selinux?: SelinuxLabels;
  /** kept after detach, for PodSandboxStatus */
  addresses: string[];
}

export interface Pod {
  record: PodRecord;
  /** the config as the CRI's message */
  readonly config: PodSandboxConfig;
  /** host pid of the monitor; 0 when there is none */
  monitorPid: number;
}

/** Checks a change of phase against the diagram above. FailedPreconditionError says what was tried. */
export function checkPodTransition(record: PodRecord, to: PodPhase): void {
  if (!transitions[record.phase].includes(to)) {
    throw new FailedPreconditionError(`pod sandbox ${record.id} is ${record.phase}; it cannot become ${to}`);
  }
}

export function podNames({ record }: Pod): PodNames {
  const { namespace = "", name = "", uid = "" } = (record.config["metadata"] ?? {}) as Partial<PodNames>;
  return { namespace, name, uid };
}
