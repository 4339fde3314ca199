import { berth as proto } from "../../cri-proto/generated/admin.js";
import { type ChangeKind, rootChanges } from "../../sandbox/rootfs/root-changes.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

const { ChangeKind: Kind } = proto.v1;
const kinds: Record<ChangeKind, proto.v1.ChangeKind> = {
  added: Kind.CHANGE_ADDED,
  changed: Kind.CHANGE_CHANGED,
  deleted: Kind.CHANGE_DELETED,
};

/** `berth diff`. */
export async function* diffContainer(
  { node }: Runtime,
  request: proto.v1.DiffContainerRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.IDiffContainerResponse> {
  const { id, layers } = node.containers.resolve(required(request.container_id, "container_id")).record;
  const comparison = await node.snapshots.compareRootfs(id, layers);
  try {
    for await (const piece of rootChanges(comparison, signal)) {
      yield { changes: piece.map(({ kind, path }) => ({ kind: kinds[kind], path })) };
    }
  } finally {
    await comparison.close();
  }
}
