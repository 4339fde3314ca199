import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { metricDescriptors } from "../pod-metrics.js";
import type { Runtime } from "../runtime.js";

export function listMetricDescriptors(
  _runtime: Runtime,
  _request: proto.v1.IListMetricDescriptorsRequest,
): proto.v1.IListMetricDescriptorsResponse {
  return { descriptors: metricDescriptors() };
}
