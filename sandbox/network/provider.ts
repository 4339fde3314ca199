/** What the sandbox asks of a pod network. Three providers stand behind it: the built-in bridge, CNI plugins, and none. */

import type { Known, Leak } from "../leaks/leak.js";
import type { Bandwidth } from "./bandwidth.js";
import type { PortRule } from "./nftables.js";

/** One port of the node that leads to a port of the pod (CRI PortMapping). */
export interface PortMapping {
  protocol: "tcp" | "udp" | "sctp";
  containerPort: number;
  hostPort: number;
  hostIp: string;
}

/**
 * What a pod has, or is about to get. It is stored with the pod before anything is made (the intent), and is all that a
 * later agent needs to take the network away again.
 */
export interface NetworkLease {
  provider: "builtin" | "cni" | "none";
  /** in the pod: "eth0" */
  interfaceName: string;
  /** the veth's end on the host */
  hostInterface: string;
  bridge: string;
  mac: string;
  /** CIDRs, the primary one first */
  addresses: string[];
  gateways: string[];
  /** those that have a host port; held from reserve on, so that a crash cannot lose one */
  portMappings: PortMapping[];
  /** of the built-in network: the pod's limits; `ifb` is the interface that what comes from the pod is led through */
  bandwidth?: Bandwidth & { ifb: string };
  /** of CNI: what its plugins need */
  cni?: CniLease;
}

/** What plugins are to be called with again. */
export interface CniLease {
  /** the whole list of plugins as it was when the pod was made, as JSON */
  configuration: string;
  netnsPath: string;
  /** CNI_ARGS */
  args: [name: string, value: string][];
  capabilityArgs: Readonly<Record<string, unknown>>;
  /** as the last plugin gave it; none before ADD has succeeded */
  result?: Readonly<Record<string, unknown>>;
}

/** What a network may know of a pod. */
export interface NetworkedPod {
  name: string;
  namespace: string;
  uid: string;
  annotations: Readonly<Record<string, string>>;
  dns: { servers: readonly string[]; searches: readonly string[]; options: readonly string[] };
  /** of the kubelet; empty: none */
  cgroupPath: string;
  /** where its network namespace will be pinned */
  netnsPath: string;
}

export interface NetworkStatus {
  ready: boolean;
  /** CamelCase, for the condition's reason; empty when ready */
  reason: string;
  message: string;
}

/** What of a pod that has ended is still to be taken away. */
export interface PendingRemoval {
  podId: string;
  /** the configuration's name */
  network: string;
  /** milliseconds since 1970 */
  since: number;
  attempts: number;
  /** of the last attempt; empty: the first one runs */
  error: string;
}

/** What of the host's rules is a pod's, and what they have dropped. */
export interface PodRules {
  rules: PortRule[];
  /** beside the interfaces' own counters */
  drops: { where: string; packets: number }[];
}

export interface NetworkProvider {
  readonly name: "builtin" | "cni" | "none";
  /** once, after the leases of all recorded pods were adopted: sets up what all pods share */
  start(): Promise<void>;
  /** once, after start(): new pods come to it from here on */
  choose?(): Promise<void>;
  /** does not watch the host any more; what pods have stays */
  close?(): void;
  status(): NetworkStatus | Promise<NetworkStatus>;
  /** takes addresses and host ports for a pod (in memory; the caller stores the lease before attach).
   *  ResourceExhaustedError: no address left; FailedPreconditionError: a host port is another pod's;
   *  InvalidArgumentError: a mapping or an annotation is malformed; UnavailableError: the network is not ready. Then
   *  nothing is taken */
  reserve(podId: string, portMappings: readonly PortMapping[], pod: NetworkedPod): NetworkLease;
  /** takes the addresses and host ports of a recovered pod */
  adopt(podId: string, lease: NetworkLease): void;
  /** makes the interfaces and the lease's port rules; answers the lease, or one that is to be stored in its place. After a
   *  failure the lease stays reserved, and what is left goes with detach */
  attach(podId: string, lease: NetworkLease, options: { namespaceFd: number }): Promise<NetworkLease>;
  /** takes everything of the lease away (also of one that was only reserved) and frees its addresses; already gone is
   *  success. `namespaceGone`: the pod's namespace loses its last reference now, so that the kernel removes the veth by
   *  itself. A lease of CNI keeps its namespace, which is unpinned when the plugins are done with it */
  detach(podId: string, lease: NetworkLease, options: { namespaceGone: boolean }): Promise<void>;
  /** the node's pod CIDRs, as the kubelet sets them ("10.1.2.0/24" or "v4,v6"); running pods keep theirs */
  setPodCidr(cidr: string): Promise<void>;
  /** that new pods get addresses of, where we choose them */
  subnets(): readonly string[];
  /** of pods that have ended */
  pendingRemovals(): PendingRemoval[];
  /** tries these again now, and frees what belongs to no pod; never rejects: what fails stays pending, unless its pod is among
   *  those to give up */
  cleanUp(giveUp?: readonly string[]): Promise<void>;
  /** interfaces, addresses and host ports of pods that are not among the known ones */
  leaks?(known: Known): Promise<Leak[]> | Leak[];
  /** asks the kernel; a network that plugins make tells none */
  podRules(lease: NetworkLease): Promise<PodRules>;
  /** for `Status` verbose and the CLI */
  describe(): Record<string, unknown>;
}
