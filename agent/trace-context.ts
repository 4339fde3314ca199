/** W3C's trace context, as the kubelet sends it with its calls when tracing is switched on. */
import type { Metadata } from "@grpc/grpc-js";

const traceparent = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-|$)/;

/** The trace that the caller says the call is part of, when somebody records it: another one leads nowhere. */
export function recordedTrace(metadata: Pick<Metadata, "get">): string | undefined {
  const [header] = metadata.get("traceparent");
  const [, trace, flags = "0"] = traceparent.exec(String(header ?? "")) ?? [];
  return Number.parseInt(flags, 16) % 2 === 1 ? trace : undefined;
}
