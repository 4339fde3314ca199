import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { createContainer as create } from "../../sandbox/create-container.js";
import { NotFoundError, UnimplementedError } from "../../sandbox/errors.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function createContainer(
  { node, images }: Runtime,
  request: proto.v1.CreateContainerRequest,
  signal: AbortSignal,
): Promise<proto.v1.ICreateContainerResponse> {
  const pod = node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const config = required(request.config, "config");
  required(required(config.metadata, "config.metadata").name, "config.metadata.name");
  const name = required(required(config.image, "config.image").image, "config.image.image");
  refuseWhatIsNotBuilt(config);

  const image = images.store.find(name);
  if (image === undefined) throw new NotFoundError(`config.image: image "${name}" is not on this node; pull it first`);
  // a RemoveImage at the same time must not take the layers away before the container's record speaks of them
  const release = images.store.hold(image.layers);
  try {
    const podConfig = request.sandbox_config ?? pod.config;
    const container = await create(node, pod, { config, podConfig, image }, signal);
    return { container_id: container.record.id };
  } finally {
    release();
  }
}

function refuseWhatIsNotBuilt(config: proto.v1.IContainerConfig): void {
  for (const [index, mount] of (config.mounts ?? []).entries()) {
    if (mount.image) throw new UnimplementedError(`config.mounts[${index}].image: image volumes are not built yet`);
  }
  if (config.CDI_devices?.length) throw new UnimplementedError("config.CDI_devices: CDI devices are not built yet");
}
