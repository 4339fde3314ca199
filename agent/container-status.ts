/** A container as ListContainers and ContainerStatus show it. */
import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { Container } from "../sandbox/container.js";
import type { Images } from "./images/images.js";
import { formatReference, parseReference } from "./images/reference.js";
import { containerState, toInt64 } from "./states.js";

export function listedContainer(container: Container, images: Images): proto.v1.IContainer {
  const { record, config } = container;
  return {
    id: record.id,
    pod_sandbox_id: record.podId,
    metadata: config.metadata ?? null,
    image: imageSpec(container, images),
    image_ref: record.imageId,
    image_id: record.imageId,
    state: containerState(container),
    created_at: toInt64(record.createdAt),
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
  };
}

export function containerStatus(container: Container, images: Images): proto.v1.IContainerStatus {
  const { record, config } = container;
  return {
    id: record.id,
    metadata: config.metadata ?? null,
    state: containerState(container),
    created_at: toInt64(record.createdAt),
    started_at: toInt64(record.startedAt),
    finished_at: toInt64(record.finishedAt),
    exit_code: record.exitCode,
    image: imageSpec(container, images),
    // the kubelet shows it as the pod's imageID: a name by which the very image can be pulled again, if it has one
    image_ref: images.store.find(record.imageId)?.repoDigests[0] ?? record.imageId,
    image_id: record.imageId,
    reason: record.reason,
    message: record.message,
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
    mounts: config.mounts ?? [],
    log_path: record.logPath,
    resources: { linux: config.linux?.resources ?? null },
    user: containerUser(container),
    stop_signal: record.stopSignal,
  };
}

/**
 * The image as it was asked for. The kubelet asks by id and shows what it gets back to people: they are given the name
 * that the pod's author wrote, or one of the image's own.
 */
export function imageSpec(container: Container, images: Images): proto.v1.IImageSpec {
  const asked = container.config.image ?? {};
  if (asked.image !== container.record.imageId) return asked;
  const tags = images.store.find(container.record.imageId)?.repoTags ?? [];
  const written = tags.length > 1 ? nameOf(asked.user_specified_image ?? "") : undefined;
  return { ...asked, image: tags.find((tag) => tag === written) ?? tags[0] ?? asked.image ?? "" };
}

/** In full, as images have their names; undefined: it is no name. */
function nameOf(text: string): string | undefined {
  try {
    return formatReference(parseReference(text));
  } catch {
    return undefined;
  }
}

function containerUser(container: Container): proto.v1.IContainerUser | null {
  const user = container.record.spec?.process.user;
  if (user === undefined) return null;
  return {
    linux: {
      uid: toInt64(user.uid),
      gid: toInt64(user.gid),
      supplemental_groups: (user.additionalGids ?? []).map(toInt64),
    },
  };
}
