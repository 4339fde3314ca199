import { runtime } from "../cri-proto/generated/runtime.js";
import { FailedPreconditionError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import type { Pod } from "./pod.js";
import { update } from "./store.js";

export interface PodResources {
  overhead: runtime.v1.ILinuxContainerResources | null;
  resources: runtime.v1.ILinuxContainerResources | null;
}

/**
 * Records the new size of a pod and what it costs beside its containers. The pod's cgroup is the kubelet's, who has
 * resized it already when it says so: nothing is applied.
 */
export function updatePodResources(node: SandboxNode, pod: Pod, asked: PodResources): Promise<void> {
  const { id } = pod.record;
  return node.serial.run(id, async () => {
    const { phase } = pod.record;
    if (phase !== "ready") throw new FailedPreconditionError(`pod sandbox ${id} is ${phase}`);
    const { config } = pod;
    config.linux = {
      ...config.linux,
      ...(asked.overhead && { overhead: asked.overhead }),
      ...(asked.resources && { resources: asked.resources }),
    };
    const { PodSandboxConfig: Message } = runtime.v1;
    update(node.store.pods, pod, { config: Message.toObject(Message.fromObject(config), { longs: String }) });
  });
}
