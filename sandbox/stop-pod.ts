import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { recordEndWithPod } from "./container-end.js";
import type { SandboxNode } from "./node.js";
import { monitorSocketPath } from "./paths.js";
import { checkPodTransition, type Pod } from "./pod.js";
import { killPodCgroup, removePodCgroup } from "./pod-cgroups.js";
import { removePodNetwork } from "./pod-network.js";
import { frozenAfterMs } from "./stop-container.js";
import { learn } from "./store.js";
import { thawPod } from "./thaw-pod.js";

/**
 * Kills everything in the pod and takes its network and its cgroup away; the record and the run directory stay until
 * removePod. Each step is idempotent, so that a stop which failed half way is finished by the next one, or by the next
 * agent.
 */
export function stopPod(node: SandboxNode, pod: Pod): Promise<void> {
  return node.serial.run(pod.record.id, async () => {
    if (pod.record.phase === "stopped") return;
    if (pod.record.phase !== "stopping") {
      checkPodTransition(pod.record, "stopping");
      learn(node.store.pods, pod, { phase: "stopping" });
    }
    const { observer } = node;
    await observer.step("stop-pod", "processes", () => endProcesses(node, pod));
    await observer.step("stop-pod", "cgroup", () => removePodCgroup(node, pod));
    // last: plugins may take their time
    await observer.step("stop-pod", "network", () => removePodNetwork(node, pod));
    learn(node.store.pods, pod, { phase: "stopped" });
    observer.emit({ type: "pod-event", event: "stopped", podId: pod.record.id });
  });
}

async function endProcesses(node: SandboxNode, pod: Pod): Promise<void> {
  const { id } = pod.record;
  const containers = node.containers.ofPod(id);
  const killContainers = () => Promise.all(containers.map(({ record }) => node.cgroups.kill(record.cgroupPath)));
  const ending = node.monitors.end(id);
  const waiting = new AbortController();
  const thawing = async () => {
    await sleep(frozenAfterMs, undefined, { signal: waiting.signal });
    await thawPod(node, pod, pod.record.monitorCgroup);
    await killContainers().catch((error: unknown) => {
      node.observer.emit({ type: "trouble", what: "kill what may be frozen", subject: id, error });
    });
    return ending;
  };
  const clean = await Promise.race([ending, thawing()]).finally(() => waiting.abort());
  if (!clean) {
    await thawPod(node, pod, pod.record.monitorCgroup);
    await Promise.all([killPodCgroup(node, pod), killContainers()]);
  }
  pod.monitorPid = 0;
  for (const container of containers) recordEndWithPod(node, container);
  rmSync(monitorSocketPath(node.paths, id), { force: true });
}
