import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { Pod } from "../sandbox/pod.js";
import { podState, toInt64 } from "./states.js";

/** A pod as PodSandboxStatus shows it. Only a pod that is ready has addresses: after that others may get them. */
export function podStatus(pod: Pod): proto.v1.IPodSandboxStatus {
  const { record, config } = pod;
  const [ip, ...more] = record.phase === "ready" ? record.addresses : [];
  return {
    id: record.id,
    metadata: config.metadata ?? null,
    state: podState(pod),
    created_at: toInt64(record.createdAt),
    network: { ip: ip ?? "", additional_ips: more.map((additional) => ({ ip: additional })) },
    linux: { namespaces: { options: config.linux?.security_context?.namespace_options ?? {} } },
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
    runtime_handler: record.runtimeHandler,
  };
}
