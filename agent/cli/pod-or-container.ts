/** For commands that take the beginning of an id, be it a pod's or a container's. */
import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Client } from "./client.js";
import { NotKnownError, UsageError, unlessUnknown } from "./failure.js";

export type PodOrContainer =
  | { kind: "pod"; id: string; name: string; state: proto.v1.PodSandboxState | null | undefined }
  | { kind: "container"; id: string; name: string; state: proto.v1.ContainerState | null | undefined };

/** @throws {UsageError} it begins both @throws {NotKnownError} it begins none */
export async function podOrContainer(client: Client, beginning: string): Promise<PodOrContainer> {
  const container = await unlessUnknown(client.call("ContainerStatus", { container_id: beginning }));
  const pod = await unlessUnknown(client.call("PodSandboxStatus", { pod_sandbox_id: beginning }));
  if (container !== undefined && pod !== undefined) {
    throw new UsageError(`"${beginning}" begins the ids of a container and of a pod; give more of it`);
  }
  if (container?.status?.id) {
    const { id, metadata, state } = container.status;
    return { kind: "container", id, name: metadata?.name ?? "", state };
  }
  if (pod?.status?.id)
    return { kind: "pod", id: pod.status.id, name: pod.status.metadata?.name ?? "", state: pod.status.state };
  throw new NotKnownError(`no pod or container is known whose id begins with "${beginning}"`);
}
