import Long from "long";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import type { Runtime } from "../runtime.js";

/** `berth network ls`. */
export function listNetworkRemovals({ node }: Runtime): proto.v1.IListNetworkRemovalsResponse {
  const removals = node.network.pendingRemovals().map(({ podId, network, since, attempts, error }) => ({
    pod_sandbox_id: podId,
    network,
    since: Long.fromNumber(since).mul(1_000_000),
    attempts,
    error,
  }));
  return { removals };
}
