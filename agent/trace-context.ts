/** W3C's trace context, as the kubelet sends it with its calls when tracing is switched on. */
import type { Metadata } from "@grpc/grpc-js";

const traceparent = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

export interface TraceParent {
  /** 32 and 16 hexadecimal digits */
  traceId: string;
  spanId: string;
  /** the caller records it */
  recorded: boolean;
}

/** The span that a call is made in; undefined: the caller tells of none. */
export function traceParent(metadata: Pick<Metadata, "get">): TraceParent | undefined {
  const [header] = metadata.get("traceparent");
  const [, traceId, spanId, flags = "0"] = traceparent.exec(String(header ?? "")) ?? [];
  if (traceId === undefined || spanId === undefined) return undefined;
  return { traceId, spanId, recorded: Number.parseInt(flags, 16) % 2 === 1 };
}
