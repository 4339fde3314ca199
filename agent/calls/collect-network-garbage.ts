import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { InvalidArgumentError, NotFoundError } from "../../sandbox/errors.js";
import type { Runtime } from "../runtime.js";
import { listNetworkRemovals } from "./list-network-removals.js";

/** `berth network gc`. */
export async function collectNetworkGarbage(
  runtime: Runtime,
  request: proto.v1.ICollectNetworkGarbageRequest,
): Promise<proto.v1.IListNetworkRemovalsResponse> {
  const { network } = runtime.node;
  const pending = network.pendingRemovals().map(({ podId }) => podId);
  await network.cleanUp((request.give_up ?? []).map((asked) => resolve(asked, pending)));
  return listNetworkRemovals(runtime);
}

function resolve(asked: string, pending: readonly string[]): string {
  const found = pending.filter((podId) => asked !== "" && podId.startsWith(asked));
  if (found.length > 1) throw new InvalidArgumentError(`give_up: "${asked}" is the beginning of several pods' ids`);
  if (found[0] === undefined) throw new NotFoundError(`nothing of a pod "${asked}" is to be taken away`);
  return found[0];
}
