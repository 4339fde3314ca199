/**
 * Calls as spans, in the trace that their caller is in (the kubelet sends W3C's traceparent when it traces), and the steps of
 * operations as their children. A step belongs to the call in whose asynchronous context it ends; of several calls that
 * share one operation, to the first.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { messageOf } from "../../sandbox/errors.js";
import type { Observer } from "../../sandbox/observer.js";
import type { TraceParent } from "../trace-context.js";

export interface Span {
  traceId: string;
  spanId: string;
  /** empty: the first one of its trace */
  parentSpanId: string;
  name: string;
  /** it answers a caller in another process */
  server: boolean;
  /** nanoseconds since 1970 */
  begin: bigint;
  end: bigint;
  attributes: Readonly<Record<string, string>>;
  /** empty: it succeeded */
  error: string;
}

interface Context {
  traceId: string;
  spanId: string;
}

export class Tracer {
  readonly #current = new AsyncLocalStorage<Context>();

  constructor(private readonly record: (span: Span) => void) {}

  /** Runs a call as a span, unless its caller says that nobody records the trace. */
  async trace<T>(
    method: string,
    parent: TraceParent | undefined,
    attributes: Readonly<Record<string, string>>,
    run: () => Promise<T>,
  ): Promise<T> {
    if (parent?.recorded === false) return run();
    const context = { traceId: parent?.traceId ?? hex(16), spanId: hex(8) };
    const begin = now();
    const ended = (error: string) =>
      this.record({
        ...context,
        parentSpanId: parent?.spanId ?? "",
        name: method,
        server: true,
        begin,
        end: now(),
        attributes,
        error,
      });
    try {
      const answer = await this.#current.run(context, run);
      ended("");
      return answer;
    } catch (error) {
      ended(messageOf(error));
      throw error;
    }
  }

  /** From now on steps are recorded. */
  listen(observer: Observer): void {
    observer.subscribe((happening) => {
      if (happening.type !== "step") return;
      const context = this.#current.getStore();
      if (context === undefined) return;
      const end = now();
      this.record({
        traceId: context.traceId,
        spanId: hex(8),
        parentSpanId: context.spanId,
        name: `${happening.operation}: ${happening.step}`,
        server: false,
        begin: end - BigInt(Math.round(happening.seconds * 1e9)),
        end,
        attributes: {},
        error: "",
      });
    });
  }
}

function hex(bytes: number): string {
  return randomBytes(bytes).toString("hex");
}

// one clock for all spans: steps must lie within their call
const offset = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

function now(): bigint {
  return offset + process.hrtime.bigint();
}
