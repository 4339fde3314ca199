import { rmSync } from "node:fs";
import { join } from "node:path";
import Long from "long";
import { runtime } from "../cri-proto/generated/runtime.js";
import { native, programs } from "../native/binding.js";
import { makeDirectories } from "./directories.js";
import { AlreadyExistsError, InvalidArgumentError } from "./errors.js";
import { fieldsOfPod } from "./field-of-step.js";
import { checkNotCancelled } from "./flights.js";
import { newId } from "./index-of-ids.js";
import { podLabels, tellOfIgnoredLabels } from "./lsm/selinux-labels.js";
import { MadeDirectories, makeLogDirectory } from "./made-directories.js";
import { toCallError } from "./monitor-client.js";
import { monitorEvents } from "./monitor-events.js";
import type { NetworkedPod } from "./network/provider.js";
import type { SandboxNode } from "./node.js";
import { monitorSocketPath, podDirectory } from "./paths.js";
import type { Pod, PodRecord, PodSandboxConfig } from "./pod.js";
import {
  enterScope,
  firstCgroup,
  inPodCgroup,
  killPodCgroup,
  makePodCgroup,
  planPodCgroups,
  removeMadeParents,
  removePodCgroup,
} from "./pod-cgroups.js";
import { hostnameOf, writePodFiles } from "./pod-files.js";
import { attachPodNetwork, removePodNetwork } from "./pod-network.js";
import { checkPodSecurity } from "./pod-security.js";
import { portMappings } from "./port-mappings.js";
import type { SelinuxLabels } from "./spec/selinux.js";
import { podSysctls } from "./spec/sysctls.js";
import { podUserNamespace } from "./spec/user-namespace.js";
import { update } from "./store.js";
import { together, Undo } from "./undo.js";
import { checkUserNamespaceSupport, toIdMaps } from "./user-namespaces.js";

const { NamespaceMode } = runtime.v1;

/** The pod's /dev/shm, as large as the field's runtimes make it. */
const shmBytes = 64 * 1024 * 1024;

/**
 * Makes a pod: its record (the intent), its files, its cgroup, the monitor in new namespaces, its network. Every step
 * has its undo beside it; a failed or cancelled call leaves nothing, or, when that cannot be taken away, a pod that is not
 * ready. Two calls for the same pod share one start.
 */
export async function startPod(
  node: SandboxNode,
  config: PodSandboxConfig,
  runtimeHandler: string,
  signal?: AbortSignal,
): Promise<Pod> {
  checkPodSecurity(config);
  checkUserNamespaceSupport(config, node.features);
  const sysctls = podSysctls(config);
  const name = podName(config);
  return node.podFlights.join(name, signal, async (abandoned) => {
    const namesake = node.pods.list().find((pod) => isNamedAs(pod.config, config));
    if (namesake !== undefined) {
      throw new AlreadyExistsError(`config.metadata: pod sandbox ${namesake.record.id} has this name, uid and attempt`);
    }
    const pod = planPod(node, config, runtimeHandler);
    node.pods.starting.add(pod);
    const undo = new Undo();
    try {
      await makePod(node, pod, sysctls, undo, abandoned);
      undo.commit();
      return pod;
    } catch (error) {
      const left = await undo.run();
      for (const { what, error } of left) {
        node.observer.emit({ type: "trouble", what, subject: pod.record.id, error });
      }
      // listed as not ready: its removal tries again, or the start of the next agent
      if (left.length > 0 && node.store.pods.has(pod.record.id)) node.pods.add(pod);
      throw toCallError(error, `pod sandbox ${config.metadata?.name} could not be started`, fieldsOfPod(config));
    } finally {
      node.pods.starting.delete(pod);
    }
  });
}

async function makePod(
  node: SandboxNode,
  pod: Pod,
  sysctls: Record<string, string>,
  undo: Undo,
  abandoned: AbortSignal,
): Promise<void> {
  const { observer } = node;
  const { id } = pod.record;
  const step = async <T>(name: string, run: () => Promise<T> | T): Promise<T> => {
    checkNotCancelled(abandoned, "RunPodSandbox");
    return observer.step("start-pod", name, run);
  };

  undo.pushForgetting("remove the record", () => node.store.pods.delete(id));
  undo.pushForgetting("remove the parents of the cgroup", () => {
    node.pods.starting.delete(pod);
    return removeMadeParents(node, pod);
  });
  undo.push("remove the network", () => removePodNetwork(node, pod));
  await step("record", () => node.store.pods.put(pod.record));

  const made = new MadeDirectories((all) => update(node.store.pods, pod, { madeDirectories: [...all] }));
  undo.push("remove the directory of the logs", () => made.takeBack());
  undo.push("remove the run directory", () => rmSync(podDirectory(node.paths, id), { recursive: true, force: true }));
  undo.push("remove the cgroup", () => removeCgroup(node, pod));
  await step("cgroup and files", () =>
    together(
      () => makePodCgroup(node, pod),
      () => makeFiles(node, pod, made),
    ),
  );

  undo.push("end the monitor", () => node.monitors.end(id));
  await step("monitor", () => startMonitor(node, pod));

  await step("network and connection", () =>
    together(
      () => attachPodNetwork(node, pod),
      async () => {
        await connectMonitor(node, pod);
        await enterScope(node, pod);
      },
    ),
  );
  await step("set up", async () => {
    const ownIpc = namespaceModes(pod.config).ipc === NamespaceMode.POD;
    await node.monitors.get(id).setUpPod({
      hostname: hostnameOf(pod.config),
      sysctls,
      shm_bytes: Long.fromNumber(ownIpc ? shmBytes : 0, true),
      mount_label: pod.record.selinux?.mount ?? "",
    });
  });
  await step("ready", () => {
    update(node.store.pods, pod, { phase: "ready" });
    node.pods.add(pod);
    for (const event of ["created", "started"] as const) observer.emit({ type: "pod-event", event, podId: id });
  });
}

/** Everything about the pod that is decided before anything is made. */
function planPod(node: SandboxNode, config: PodSandboxConfig, runtimeHandler: string): Pod {
  const modes = namespaceModes(config);
  const id = newId();
  const cgroups = planPodCgroups(node, config, id);
  const hostNetwork = modes.network === NamespaceMode.NODE;
  tellOfIgnoredLabels(node.observer, node.selinux, config.linux?.security_context?.selinux_options);
  const labels = podLabels(node.selinux, config, labelsInUse(node));
  // the last that can fail: from here on the addresses are taken
  const netnsPath = hostNetwork ? "" : join(node.paths.netns, `berth-${id}`);
  const network = hostNetwork ? null : node.network.reserve(id, portMappings(config), networkedPod(config, netnsPath));
  const record: PodRecord = {
    version: 1,
    id,
    phase: "starting",
    config: runtime.v1.PodSandboxConfig.toObject(runtime.v1.PodSandboxConfig.fromObject(config), { longs: String }),
    runtimeHandler,
    createdAt: (BigInt(Date.now()) * 1_000_000n).toString(),
    bootId: node.bootId,
    ...cgroups,
    netnsPath,
    network,
    ...(labels !== undefined && { selinux: labels }),
    addresses: network?.addresses.map((cidr) => cidr.split("/")[0] ?? cidr) ?? [],
  };
  return { record, config, monitorPid: 0 };
}

function networkedPod(config: PodSandboxConfig, netnsPath: string): NetworkedPod {
  const { name, namespace, uid } = config.metadata ?? {};
  const { servers, searches, options } = config.dns_config ?? {};
  return {
    name: name ?? "",
    namespace: namespace ?? "",
    uid: uid ?? "",
    annotations: config.annotations ?? {},
    dns: { servers: servers ?? [], searches: searches ?? [], options: options ?? [] },
    cgroupPath: config.linux?.cgroup_parent ?? "",
    netnsPath,
  };
}

function labelsInUse(node: SandboxNode): SelinuxLabels[] {
  return [...node.pods.list(), ...node.pods.starting].flatMap(({ record }) => record.selinux ?? []);
}

function makeFiles(node: SandboxNode, pod: Pod, made: MadeDirectories): void {
  const directory = podDirectory(node.paths, pod.record.id);
  // Node's own, that makes parents, says ENOENT of a read-only file system
  makeDirectories(join(directory, "exits"), 0o700);
  writePodFiles(directory, pod.config, pod.record.addresses);
  if (pod.config.log_directory) makeLogDirectory(made, pod.config.log_directory, "config.log_directory");
}

async function startMonitor(node: SandboxNode, pod: Pod): Promise<void> {
  const { id, netnsPath } = pod.record;
  const modes = namespaceModes(pod.config);
  const users = podUserNamespace(pod.config);
  const directory = podDirectory(node.paths, id);
  const handles = node.cgroups.handles(firstCgroup(pod));
  const options = {
    executable: programs.monitor,
    args: ["--sandbox", id, "--directory", directory],
    socketPath: monitorSocketPath(node.paths, id),
    logPath: join(directory, "monitor.log"),
    namespaces: {
      network: modes.network === NamespaceMode.POD,
      ipc: modes.ipc === NamespaceMode.POD,
      // with the host's network a pod has the host's name, too
      uts: modes.network === NamespaceMode.POD,
      pid: modes.pid !== NamespaceMode.NODE,
    },
    networkPin: netnsPath,
    cgroupTasksFiles: handles.tasksFiles,
    cgroup2Directory: handles.cgroup2Directory,
    ...(users !== undefined && { userNamespace: toIdMaps(users) }),
  };
  const { pidfd } = await inPodCgroup(node, pod, () => native.spawnMonitor(options));
  node.monitors.watch(id, pidfd);
}

async function connectMonitor(node: SandboxNode, pod: Pod): Promise<void> {
  const monitor = await node.monitors.connect(node.paths, pod.record.id, monitorEvents(node, pod));
  pod.monitorPid = monitor.pid;
}

async function removeCgroup(node: SandboxNode, pod: Pod): Promise<void> {
  // what was never made needs no thread, and there may be none to be had
  if (!node.cgroups.exists(firstCgroup(pod))) return;
  await killPodCgroup(node, pod);
  await removePodCgroup(node, pod);
}

interface NamespaceModes {
  network: runtime.v1.NamespaceMode;
  pid: runtime.v1.NamespaceMode;
  ipc: runtime.v1.NamespaceMode;
}

/** The pod's namespaces, but for its user namespace. InvalidArgumentError: a mode that a pod cannot have. */
export function namespaceModes(config: PodSandboxConfig): NamespaceModes {
  const options = config.linux?.security_context?.namespace_options;
  const modes = {
    network: options?.network ?? NamespaceMode.POD,
    pid: options?.pid ?? NamespaceMode.POD,
    ipc: options?.ipc ?? NamespaceMode.POD,
  };
  const field = "config.linux.security_context.namespace_options";
  for (const name of ["network", "ipc"] as const) {
    if (modes[name] !== NamespaceMode.POD && modes[name] !== NamespaceMode.NODE) {
      throw new InvalidArgumentError(
        `${field}.${name}: a pod has its own (POD) or the host's (NODE), not ${NamespaceMode[modes[name]] ?? modes[name]}`,
      );
    }
  }
  if (![NamespaceMode.POD, NamespaceMode.CONTAINER, NamespaceMode.NODE].includes(modes.pid)) {
    throw new InvalidArgumentError(
      `${field}.pid: a pod has its own (POD), none in common (CONTAINER) or the host's (NODE), not ${NamespaceMode[modes.pid] ?? modes.pid}`,
    );
  }
  return modes;
}

function isNamedAs({ metadata: a }: PodSandboxConfig, { metadata: b }: PodSandboxConfig): boolean {
  // the uid first: on a node with a thousand pods it tells nearly all of them apart
  return (["uid", "name", "namespace", "attempt"] as const).every((part) => (a?.[part] || "") === (b?.[part] || ""));
}

/** What makes two requests be for the same pod. */
function podName(config: PodSandboxConfig): string {
  const { name, namespace, uid, attempt } = config.metadata ?? {};
  return JSON.stringify([namespace ?? "", name ?? "", uid ?? "", attempt ?? 0]);
}
