import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Runtime } from "../runtime.js";

/** Ends when its caller goes, falls behind, or the agent ends. */
export function getContainerEvents(
  { events }: Runtime,
  _request: proto.v1.IGetEventsRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.IContainerEventResponse> {
  return events.subscribe(signal);
}
