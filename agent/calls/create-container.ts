import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { createContainer as create } from "../../sandbox/create-container.js";
import { NotFoundError } from "../../sandbox/errors.js";
import { collectOwed } from "../images/collect-owed.js";
import { resolveImageVolumes } from "../images/image-volumes.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { checkTexts } from "../texts.js";

export async function createContainer(
  { node, images }: Runtime,
  request: proto.v1.CreateContainerRequest,
  signal: AbortSignal,
): Promise<proto.v1.ICreateContainerResponse> {
  const pod = node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const asked = required(request.config, "config");
  required(required(asked.metadata, "config.metadata").name, "config.metadata.name");
  checkTexts(asked);
  const name = required(required(asked.image, "config.image").image, "config.image.image");

  const image = images.store.find(name);
  if (image === undefined) throw new NotFoundError(`config.image: image "${name}" is not on this node; pull it first`);
  const { config, volumeLayers } = resolveImageVolumes(asked, images.store);
  // a RemoveImage at the same time must not take the layers away before the container's record speaks of them
  const release = images.store.hold([...image.layers, ...Object.values(volumeLayers).flat()]);
  try {
    // request.sandbox_config says again what the pod was made with, and that counts. But the kubelet has it say privileged
    // from the first privileged debug container on, that comes to a pod made without.
    const podRunsPrivileged = request.sandbox_config?.linux?.security_context?.privileged ?? false;
    const container = await create(node, pod, { config, image, volumeLayers, podRunsPrivileged }, signal);
    return { container_id: container.record.id };
  } finally {
    release();
    collectOwed({ node, images });
  }
}
