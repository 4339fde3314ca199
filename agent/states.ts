/** How the model's phases and times look on the wire. */
import Long from "long";
import { runtime } from "../cri-proto/generated/runtime.js";
import type { Container } from "../sandbox/container.js";
import type { Pod } from "../sandbox/pod.js";

const { ContainerState, PodSandboxState } = runtime.v1;

export function podState(pod: Pod): runtime.v1.PodSandboxState {
  return pod.record.phase === "ready" ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY;
}

export function containerState(container: Container): runtime.v1.ContainerState {
  switch (container.record.phase) {
    case "creating":
      return ContainerState.CONTAINER_UNKNOWN;
    case "created":
      return ContainerState.CONTAINER_CREATED;
    case "running":
      return ContainerState.CONTAINER_RUNNING;
    case "exited":
      return ContainerState.CONTAINER_EXITED;
    default:
      return container.record.phase satisfies never;
  }
}

/** Nanoseconds since the epoch, as the CRI's int64. */
export function toInt64(value: bigint | string | number): Long {
  return Long.fromString(value.toString());
}

/** A count that the kernel told: the CRI's UInt64Value. */
export function toUint64(value: number): { value: Long } {
  return { value: Long.fromNumber(value, true) };
}

/** Now, in nanoseconds since the epoch. */
export function now(): Long {
  return toInt64(BigInt(Date.now()) * 1_000_000n);
}
