import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Runtime } from "../runtime.js";
import { apiVersion, kubeletApiVersion, runtimeName, runtimeVersion } from "../version.js";

export function version(_runtime: Runtime, _request: proto.v1.IVersionRequest): proto.v1.IVersionResponse {
  return {
    version: kubeletApiVersion,
    runtime_name: runtimeName,
    runtime_version: runtimeVersion,
    runtime_api_version: apiVersion,
  };
}
