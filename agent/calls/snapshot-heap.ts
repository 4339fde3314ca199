import { getHeapSnapshot } from "node:v8";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { debugPieces } from "../debug-pieces.js";
import type { Runtime } from "../runtime.js";

/** `berth debug heap`. It is made as a whole before the first piece is sent, and takes as much memory again. */
export async function* snapshotHeap(
  _runtime: Runtime,
  _request: proto.v1.SnapshotHeapRequest,
): AsyncGenerator<proto.v1.IDebugPiece> {
  for await (const bytes of getHeapSnapshot()) yield* debugPieces(bytes as Buffer);
}
