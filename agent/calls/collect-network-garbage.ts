import type { berth as proto } from "../../cri-proto/generated/admin.js";
import type { Runtime } from "../runtime.js";
import { listNetworkRemovals } from "./list-network-removals.js";

/** `berth network gc`. */
export async function collectNetworkGarbage(runtime: Runtime): Promise<proto.v1.IListNetworkRemovalsResponse> {
  await runtime.node.network.cleanUp();
  return listNetworkRemovals(runtime);
}
