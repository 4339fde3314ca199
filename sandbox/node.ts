/**
 * What every operation on pods and containers works with: the parts of one node, put together by agent/runtime.ts.
 * Operations are functions that take the node first: startPod(node, ...), execInContainer(node, ...).
 */
import type { KernelFeatures } from "../native/binding.js";
import type { AdjustSpec } from "./adjust-spec.js";
import type { CgroupManager } from "./cgroup/manager.js";
import type { PodScopes } from "./cgroup/systemd/scopes.js";
import type { BlockioRule } from "./classes/blockio.js";
import type { Rdt, RdtClass } from "./classes/rdt.js";
import type { Container } from "./container.js";
import type { Flights } from "./flights.js";
import type { Containers, Pods } from "./index-of-ids.js";
import type { Apparmor } from "./lsm/apparmor.js";
import type { Selinux } from "./lsm/selinux.js";
import type { Monitors } from "./monitors.js";
import type { NetworkProvider } from "./network/provider.js";
import type { Observer } from "./observer.js";
import type { OciRuntime } from "./oci-runtimes.js";
import type { NodePaths } from "./paths.js";
import type { Pod } from "./pod.js";
import type { Snapshots } from "./rootfs/snapshots.js";
import type { Serial } from "./serial.js";
import type { PosixRlimit } from "./spec/oci.js";
import type { Store } from "./store.js";

export interface LogLimits {
  /** longer lines are written in parts */
  lineBytes: number;
  /** of each container; who writes more has to wait. 0: no limit */
  bytesPerSecond: number;
}

/** What may change while pods run. It counts for what is made from then on. */
export interface LiveSettings {
  /** what programs of containers begin with: of the configuration, as far as this host allows it */
  rlimits: readonly PosixRlimit[];
  /** of containers' logs */
  logs: LogLimits;
  /** OCI runtimes of the configuration, by their runtime handler */
  runtimes: ReadonlyMap<string, OciRuntime>;
  /** of the Container Device Interface's files; the later count more */
  cdiDirectories: readonly string[];
  /** of OCI hooks; null: none */
  hooksDirectory: string | null;
  /** block-IO and RDT classes of the configuration; null: it has no such table */
  blockioClasses: ReadonlyMap<string, readonly BlockioRule[]> | null;
  rdtClasses: ReadonlyMap<string, RdtClass> | null;
  /** how much each container may write to its root; undefined: as much as there is room for */
  writableLimitBytes?: number | undefined;
}

export interface SandboxNode extends LiveSettings {
  readonly paths: NodePaths;
  /** cgroup parent of pods whose config names none: "/berth" */
  readonly cgroupRoot: string;
  /** /proc/sys/kernel/random/boot_id */
  readonly bootId: string;
  readonly features: KernelFeatures;
  readonly apparmor: Apparmor;
  readonly selinux: Selinux;
  readonly rdt: Rdt;
  readonly store: Store;
  readonly pods: Pods;
  readonly containers: Containers;
  readonly monitors: Monitors;
  readonly network: NetworkProvider;
  readonly cgroups: CgroupManager;
  /** null: the cgroupfs driver */
  readonly scopes: PodScopes | null;
  readonly snapshots: Snapshots;
  /** null: specs are as they follow from requests */
  readonly adjustSpec: AdjustSpec | null;
  readonly observer: Observer;
  /** stops and removals, one at a time per pod or container id */
  readonly serial: Serial;
  /** RunPodSandbox and CreateContainer in flight, by the name that they will have */
  readonly podFlights: Flights<Pod>;
  readonly containerFlights: Flights<Container>;
}
