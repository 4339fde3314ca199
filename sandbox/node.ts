/**
 * What every operation on pods and containers works with: the parts of one node, put together by agent/runtime.ts.
 * Operations are functions that take the node first: startPod(node, ...), execInContainer(node, ...).
 */
import type { KernelFeatures } from "../native/binding.js";
import type { CgroupManager } from "./cgroup/manager.js";
import type { Containers, Pods } from "./index-of-ids.js";
import type { Monitors } from "./monitors.js";
import type { NetworkProvider } from "./network/provider.js";
import type { Observer } from "./observer.js";
import type { Snapshots } from "./rootfs/snapshots.js";
import type { Store } from "./store.js";

export interface NodePaths {
  /** /run/berth: sockets, pods' run directories */
  run: string;
  /** /var/lib/berth: what survives a reboot */
  root: string;
  /** /run/netns */
  netns: string;
}

export interface SandboxNode {
  readonly paths: NodePaths;
  /** cgroup parent of pods whose config names none: "/berth" */
  readonly cgroupRoot: string;
  readonly bootId: string;
  readonly features: KernelFeatures;
  readonly store: Store;
  readonly pods: Pods;
  readonly containers: Containers;
  readonly monitors: Monitors;
  readonly network: NetworkProvider;
  readonly cgroups: CgroupManager;
  readonly snapshots: Snapshots;
  readonly observer: Observer;
}
