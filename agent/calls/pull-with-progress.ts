import { setTimeout as sleep } from "node:timers/promises";
import Long from "long";
import { berth as proto } from "../../cri-proto/generated/admin.js";
import type { LayerProgress, TransferState } from "../images/transfers.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

const intervalMs = 100;
const { LayerState } = proto.v1;

/** `berth image pull`. */
export async function* pullWithProgress(
  { images }: Runtime,
  request: proto.v1.PullWithProgressRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.IPullProgress> {
  const pull = { reference: required(request.image, "image"), signal };
  let running = true;
  const pulled = images.pull(pull).finally(() => {
    running = false;
  });
  const ended = pulled.catch(() => undefined);
  let progress = images.progressOf(pull);
  while (running) {
    yield { layers: progress?.layers.map(describe) ?? [] };
    const pause = new AbortController();
    await Promise.race([ended, sleep(intervalMs, undefined, { signal: pause.signal }).catch(() => undefined)]);
    pause.abort();
    progress = images.progressOf(pull) ?? progress;
  }
  const { id } = await pulled;
  yield { layers: progress?.layers.map(describe) ?? [], image_ref: id };
}

const states: Record<TransferState, proto.v1.LayerState> = {
  waiting: LayerState.LAYER_WAITING,
  exists: LayerState.LAYER_EXISTS,
  downloading: LayerState.LAYER_DOWNLOADING,
  unpacking: LayerState.LAYER_UNPACKING,
  complete: LayerState.LAYER_COMPLETE,
};

function describe(layer: LayerProgress): proto.v1.ILayerProgress {
  return {
    digest: layer.digest,
    bytes: Long.fromNumber(layer.bytes, true),
    total_bytes: Long.fromNumber(layer.totalBytes, true),
    state: states[layer.state],
  };
}
