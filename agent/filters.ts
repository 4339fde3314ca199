/** The CRI's filters: everything that is set must hold. Ids match by any beginning of theirs. */
import { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { Container } from "../sandbox/container.js";
import type { Pod } from "../sandbox/pod.js";
import { containerState, podState } from "./states.js";

export function matchesPod(
  pod: Pod,
  filter: proto.v1.IPodSandboxFilter | proto.v1.IPodSandboxStatsFilter | null | undefined,
): boolean {
  if (!filter) return true;
  if (!pod.record.id.startsWith(filter.id ?? "")) return false;
  const state = "state" in filter ? filter.state : null;
  if (state && podState(pod) !== (state.state ?? proto.v1.PodSandboxState.SANDBOX_READY)) return false;
  return hasLabels(pod.config.labels, filter.label_selector);
}

export function matchesContainer(
  container: Container,
  filter: proto.v1.IContainerFilter | proto.v1.IContainerStatsFilter | null | undefined,
): boolean {
  if (!filter) return true;
  if (!container.record.id.startsWith(filter.id ?? "")) return false;
  if (!container.record.podId.startsWith(filter.pod_sandbox_id ?? "")) return false;
  const state = "state" in filter ? filter.state : null;
  if (state && containerState(container) !== (state.state ?? proto.v1.ContainerState.CONTAINER_CREATED)) return false;
  return hasLabels(container.config.labels, filter.label_selector);
}

function hasLabels(
  labels: Record<string, string> | null | undefined,
  selector: Record<string, string> | null | undefined,
): boolean {
  return Object.entries(selector ?? {}).every(([key, value]) => labels?.[key] === value);
}
