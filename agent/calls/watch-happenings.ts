import type { berth as proto } from "../../cri-proto/generated/admin.js";
import type { Runtime } from "../runtime.js";

/** For `berth events` and `berth kube`. */
export function watchHappenings(
  { happenings }: Runtime,
  request: proto.v1.WatchHappeningsRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.IHappening> {
  const { types, remembered_only: rememberedOnly } = request;
  return happenings.watch({ after: BigInt(String(request.after ?? 0)), types, rememberedOnly }, signal);
}
