import { runtime } from "../cri-proto/generated/runtime.js";
import type { Container } from "./container.js";
import { FailedPreconditionError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import { linuxResources } from "./spec/resources.js";
import { update } from "./store.js";

/**
 * Changes the limits of a container that is created or running. What the request leaves out stays as it is; a value that
 * the kernel refuses is an InvalidArgumentError that names it.
 */
export function updateContainer(
  node: SandboxNode,
  container: Container,
  resources: runtime.v1.ILinuxContainerResources,
): Promise<void> {
  const { id } = container.record;
  return node.serial.run(id, async () => {
    const { phase, spec, cgroupPath } = container.record;
    if (phase === "exited" || spec === null) throw new FailedPreconditionError(`container ${id} is ${phase}`);
    const changed = linuxResources(resources, { field: "linux", cgroupMode: node.cgroups.mode });
    await node.cgroups.update(cgroupPath, changed);
    const merged = mergeResources(container.config.linux?.resources ?? {}, resources);
    container.config.linux = { ...container.config.linux, resources: merged };
    const { ContainerConfig: Message } = runtime.v1;
    update(node.store.containers, container, {
      config: Message.toObject(Message.fromObject(container.config), { longs: String, bytes: String }),
      spec: { ...spec, linux: { ...spec.linux, resources: { ...spec.linux.resources, ...changed } } },
    });
  });
}

/** What ContainerStatus reports afterwards: the old values with those of the request over them. */
function mergeResources(
  old: runtime.v1.ILinuxContainerResources,
  asked: runtime.v1.ILinuxContainerResources,
): runtime.v1.ILinuxContainerResources {
  const { LinuxContainerResources: Message } = runtime.v1;
  const options = { longs: String, arrays: false, objects: false, defaults: false } as const;
  return Message.fromObject({
    ...Message.toObject(Message.fromObject(old), options),
    ...Message.toObject(Message.fromObject(asked), options),
  });
}
