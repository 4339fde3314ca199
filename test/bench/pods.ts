/** Pods and containers over the CRI: the same calls for every runtime. */
import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import Long from "long";
import type { Client } from "../../agent/cli/client.js";

export interface BenchTarget {
  client: Client;
  image: string;
  /** for pods' log_directory */
  logs: string;
}

let serial = 0;

export interface BenchPod {
  podId: string;
  containerId: string;
  /** ms of RunPodSandbox */
  sandboxMs: number;
  /** ms of CreateContainer and StartContainer */
  containerMs: number;
}

/** RunPodSandbox, CreateContainer, StartContainer. `parents`: each pod has a cgroup of its own below this one, as the kubelet makes them. */
export async function podUp(
  { client, image, logs }: BenchTarget,
  command = ["sleep", "3600"],
  parents = "",
): Promise<BenchPod> {
  serial += 1;
  const name = `bench-${process.pid}-${serial}`;
  const config = {
    metadata: { name, namespace: "bench", uid: name, attempt: 0 },
    hostname: name,
    log_directory: `${logs}/${name}`,
    labels: {},
    annotations: {},
    // as the kubelet asks: a PID namespace per container
    linux: {
      security_context: { namespace_options: { pid: 1 } },
      cgroup_parent: parents === "" ? "" : `${parents}/${name}`,
    },
  };
  // as the kubelet does
  mkdirSync(config.log_directory, { recursive: true });
  const begun = performance.now();
  const { pod_sandbox_id: podId } = await client.call("RunPodSandbox", { config });
  const sandboxed = performance.now();
  const { container_id: containerId } = await client.call("CreateContainer", {
    pod_sandbox_id: podId,
    sandbox_config: config,
    config: {
      metadata: { name: "main", attempt: 0 },
      image: { image },
      command,
      log_path: "main.log",
      labels: {},
      annotations: {},
      linux: {
        security_context: { namespace_options: { pid: 1 }, seccomp: { profile_type: 0 } },
        resources: { memory_limit_in_bytes: Long.fromNumber(1 << 28), cpu_shares: Long.fromNumber(512) },
      },
    },
  });
  await client.call("StartContainer", { container_id: containerId });
  return { podId, containerId, sandboxMs: sandboxed - begun, containerMs: performance.now() - sandboxed };
}

/** StopContainer without grace, StopPodSandbox, RemoveContainer, RemovePodSandbox. */
export async function podDown({ client }: BenchTarget, { podId, containerId }: BenchPod): Promise<void> {
  await client.call("StopContainer", { container_id: containerId, timeout: Long.ZERO });
  await client.call("StopPodSandbox", { pod_sandbox_id: podId });
  await client.call("RemoveContainer", { container_id: containerId });
  await client.call("RemovePodSandbox", { pod_sandbox_id: podId });
}

export async function execTrue({ client }: BenchTarget, { containerId }: BenchPod): Promise<void> {
  const { exit_code } = await client.call("ExecSync", {
    container_id: containerId,
    cmd: ["/bin/true"],
    timeout: Long.fromNumber(10),
  });
  if (exit_code !== 0) throw new Error(`true answered ${exit_code}`);
}

/** Waits until the container has exited. */
export async function untilExited({ client }: BenchTarget, { containerId }: BenchPod): Promise<void> {
  for (;;) {
    const { status } = await client.call("ContainerStatus", { container_id: containerId });
    if (status?.state === 2) return;
    await sleep(2);
  }
}
