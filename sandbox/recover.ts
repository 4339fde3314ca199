/**
 * The one path for a start, a restart after a crash, and a start after a reboot: read the records, find out what of it
 * lives, and bring the two together. What was half made goes, what ended meanwhile is recorded with its own code and
 * time, what is ready is connected to again.
 */
import { berth } from "../cri-proto/generated/monitor.js";
import { runtime } from "../cri-proto/generated/runtime.js";
import { native } from "../native/binding.js";
import { frozenAt } from "./cgroup/freezer.js";
import type { Container, ContainerRecord } from "./container.js";
import { recordExit, recordUnknownExit } from "./container-end.js";
import { FailedPreconditionError } from "./errors.js";
import { removeHalfMade } from "./half-made.js";
import { endLeftoverHooks } from "./hooks/running-hooks.js";
import { Latch } from "./latch.js";
import { ownLeaks } from "./leaks/find-leaks.js";
import { removeEmptyDirectories } from "./made-directories.js";
import { MonitorStepError, toBigInt } from "./monitor-client.js";
import { monitorEvents } from "./monitor-events.js";
import type { SandboxNode } from "./node.js";
import type { PodNames } from "./observer.js";
import { type Pod, type PodRecord, podNames } from "./pod.js";
import { readTablesOfProcess } from "./propagation.js";
import { clearReflected, findReflected, type ReflectedMount } from "./reflected-mounts.js";
import { forgetInMonitor, removeContainer } from "./remove-container.js";
import { forgetPod } from "./remove-pod.js";
import { awaitStart, recordStart } from "./start-container.js";
import { frozenAfterMs } from "./stop-container.js";
import { stopPod } from "./stop-pod.js";
import { isFrozenWith } from "./thaw-pod.js";

/** Recovers everything; a pod that resists is told as trouble and does not keep the others. */
export async function recover(node: SandboxNode): Promise<void> {
  // before what they may still be working on is taken away
  await attempt(node, "end what an earlier agent has left", "hooks", () => endLeftoverHooks(node.paths));
  const torn = (path: string, why: string) =>
    node.observer.emit({ type: "trouble", what: "read a record", subject: path, error: new Error(why) });
  for (const record of node.store.pods.load(torn)) node.pods.add(podOf(record));
  const halfMade: ContainerRecord[] = [];
  for (const record of node.store.containers.load(torn)) {
    if (record.phase === "creating" || node.pods.find(record.podId) === undefined) halfMade.push(record);
    else node.containers.add(containerOf(record));
  }
  // a half-made pod that goes leaves to them what they still use
  const creations = halfMade.map((record) => ({ record }));
  for (const creation of creations) {
    node.containers.creations.add(creation);
    node.containers.halfMade.add(creation);
  }
  for (const pod of node.pods.list()) {
    if (pod.record.network !== null) node.network.adopt(pod.record.id, pod.record.network);
  }
  // after all addresses are known: what it sets up serves the subnets of older pods, too
  await node.network.start();
  const pods = node.pods.list();
  await Promise.all(
    pods.map((pod) =>
      unlessSilent(
        node,
        pod,
        attempt(node, "recover the pod", pod.record.id, () => recoverPod(node, pod, halfMade)),
      ),
    ),
  );
  // after the pods: a monitor that was still making one has ended what it had begun, and makes nothing more of it
  await Promise.all(
    creations.map((creation) =>
      attempt(node, "remove the half-made container", creation.record.id, () => removeHalfMade(node, creation)),
    ),
  );
  await finishRemovals(node);
  await sweep(node);
}

/** What fails is told, and its record stays for the next start. */
async function attempt(node: SandboxNode, what: string, subject: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    node.observer.emit({ type: "trouble", what, subject, error });
  }
}

/** A container whose root file system is gone was being removed when the agent died: the rest of it goes, too. */
async function finishRemovals(node: SandboxNode): Promise<void> {
  const rootfs = new Set(await node.snapshots.listRootfs());
  for (const container of node.containers.list()) {
    if (container.record.phase !== "exited" || rootfs.has(container.record.id)) continue;
    const { id } = container.record;
    await attempt(node, "finish the removal of the container", id, async () => {
      const pod = podNamesOf(node.pods.find(container.record.podId));
      await removeContainer(node, container);
      node.observer.emit({ type: "repaired", what: "half-removed container", subject: id, ...pod });
    });
  }
}

/** Of a monitor that is stopped by a signal, or cannot be scheduled. */
const silentMs = 20_000;

/** A pod that somebody has frozen is connected to when it goes on: the others do not wait for it. */
async function unlessSilent(node: SandboxNode, pod: Pod, recovering: Promise<void>): Promise<void> {
  const recovered = new Latch();
  void recovering.then(() => recovered.open());
  for (const begun = performance.now(); !(await recovered.wait(frozenAfterMs)); ) {
    const frozen = frozenAt(node.cgroups.hierarchies, pod.record.monitorCgroup);
    if (frozen === undefined && performance.now() - begun < silentMs) continue;
    const why = frozen === undefined ? `has not answered for ${silentMs / 1000} s` : isFrozenWith(frozen);
    const error = new FailedPreconditionError(`its monitor ${why}`);
    node.observer.emit({ type: "trouble", what: "recover the pod", subject: pod.record.id, error });
    return;
  }
}

async function recoverPod(node: SandboxNode, pod: Pod, halfMade: readonly ContainerRecord[]): Promise<void> {
  const { id, phase, bootId } = pod.record;
  if (bootId !== node.bootId) {
    for (const container of node.containers.ofPod(id)) {
      recordUnknownExit(node, container, "the machine went down while it was running");
    }
  }
  if (phase === "starting") {
    await stopPod(node, pod);
    removeEmptyDirectories(pod.record.madeDirectories ?? []);
    await forgetPod(node, pod);
    node.observer.emit({ type: "repaired", what: "half-made pod", subject: id, ...podNamesOf(pod) });
  } else if (phase === "stopping" || (phase === "ready" && !(await reconnect(node, pod, halfMade)))) {
    await stopPod(node, pod);
  }
}

/** False: the monitor is gone. True also when it lives, and speaks another version of the protocol. */
async function reconnect(node: SandboxNode, pod: Pod, halfMade: readonly ContainerRecord[]): Promise<boolean> {
  const { id, bootId } = pod.record;
  if (bootId !== node.bootId) return false;
  try {
    const monitor = await node.monitors.connect(node.paths, id, monitorEvents(node, pod));
    node.monitors.watch(id, native.openProcess(monitor.pid));
    pod.monitorPid = monitor.pid;
    const states = new Map((await monitor.containers()).map((state) => [state.id, state]));
    for (const container of node.containers.ofPod(id)) {
      reconcile(node, container, states.get(container.record.id));
      states.delete(container.record.id);
    }
    // what the monitor knows and the store does not was being made, or removed, when the agent died
    await Promise.all(
      [...states.values()].map(({ id: containerId, pid }) =>
        attempt(node, "end the half-made container", containerId ?? "", async () => {
          const record = halfMade.find((one) => one.id === containerId);
          const reflected = record && pid ? await reflectedOf(record, pid) : [];
          await forgetInMonitor(node, id, containerId ?? "");
          await clearReflected(node, reflected);
        }),
      ),
    );
    return true;
  } catch (error) {
    node.monitors.disconnect(id);
    node.observer.emit({ type: "trouble", what: "connect to the pod's monitor", subject: id, error });
    if (!(error instanceof MonitorStepError && error.kind === berth.monitor.v1.Error.Kind.UNSUPPORTED_VERSION))
      return false;
    // after an upgrade: what runs is not ended for it
    node.monitors.leaveToItself(id);
    return true;
  }
}

/** Brings a container's record to what its monitor says of it. */
function reconcile(node: SandboxNode, container: Container, state: berth.monitor.v1.IContainerState | undefined): void {
  const { Phase } = berth.monitor.v1.ContainerState;
  if (state === undefined) {
    recordUnknownExit(node, container, "its monitor does not know it");
  } else if (state.phase === Phase.EXITED && state.exit) {
    recordExit(node, container, state.exit);
  } else if (container.record.phase !== "exited") {
    container.pid = state.pid ?? 0;
    container.startedPid = container.pid;
    if (state.phase !== Phase.RUNNING || container.record.phase !== "created") return;
    if (state.starting) awaitStart(node, container);
    else recordStart(node, container, { startedAt: toBigInt(state.started_at), pid: container.pid });
  }
}

/** What a container that was made, but not recorded as such, has on the host of its own mounts. */
async function reflectedOf({ config }: ContainerRecord, pid: number): Promise<ReflectedMount[]> {
  const { mounts } = runtime.v1.ContainerConfig.fromObject(config);
  const bidirectional = runtime.v1.MountPropagation.PROPAGATION_BIDIRECTIONAL;
  if (!mounts.some(({ propagation }) => propagation === bidirectional)) return [];
  const places = { own: mounts.map(({ container_path }) => container_path ?? ""), covers: [] };
  return findReflected(await readTablesOfProcess(places, pid), []);
}

function podNamesOf(pod: Pod | undefined): { pod?: PodNames } {
  return pod === undefined ? {} : { pod: podNames(pod) };
}

/** What no record speaks of, as far as it is this agent's for certain. */
async function sweep(node: SandboxNode): Promise<void> {
  for (const { kind, subject, what, repair } of await ownLeaks(node)) {
    await attempt(node, `remove what is nobody's: ${kind}`, subject, async () => {
      await repair();
      node.observer.emit({ type: "repaired", what: `${kind} of nobody`, subject: `${subject}: ${what}` });
    });
  }
}

function podOf(record: PodRecord): Pod {
  return { record, config: runtime.v1.PodSandboxConfig.fromObject(record.config), monitorPid: 0 };
}

function containerOf(record: ContainerRecord): Container {
  const ended = new Latch();
  if (record.phase === "exited") ended.open();
  return { record, config: runtime.v1.ContainerConfig.fromObject(record.config), pid: 0, ended };
}
