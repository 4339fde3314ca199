import type { berth as proto } from "../cri-proto/generated/admin.js";

/** far below what a message may have */
const pieceBytes = 1024 * 1024;

export function* debugPieces(bytes: Buffer): Generator<proto.v1.IDebugPiece> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield { data: bytes.subarray(at, at + pieceBytes) };
}
