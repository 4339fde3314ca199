/**
 * Around every call: cancellation, timer, log line, error → status. The socket is bound only after recovery, so that a
 * call never meets a half-known node.
 */
import { once } from "node:events";
import * as grpc from "@grpc/grpc-js";
import type { FinishedCall } from "../metrics/own.js";
import { isDiskFull } from "../sandbox/errno.js";
import {
  BerthError,
  CancelledError,
  DeadlineExceededError,
  type FailureKind,
  messageOf,
  ResourceExhaustedError,
} from "../sandbox/errors.js";
import type { Log } from "./log.js";
import type { RecentCalls } from "./recent-calls.js";
import { recordedTrace } from "./trace-context.js";
import type { Tracer } from "./tracing/tracer.js";

export interface CallSurroundings {
  log: Log;
  observeCall: (call: FinishedCall) => void;
  recentCalls: RecentCalls;
  /** absent: nobody wants traces */
  tracer?: Tracer | undefined;
}

export type UnaryHandler<Q, A> = (request: Q, signal: AbortSignal) => A | Promise<A>;
export type StreamHandler<Q, A> = (request: Q, signal: AbortSignal) => AsyncIterable<A>;

export interface Status {
  code: grpc.status;
  details: string;
}

const codes: Record<FailureKind, grpc.status> = {
  CANCELLED: grpc.status.CANCELLED,
  INVALID_ARGUMENT: grpc.status.INVALID_ARGUMENT,
  DEADLINE_EXCEEDED: grpc.status.DEADLINE_EXCEEDED,
  NOT_FOUND: grpc.status.NOT_FOUND,
  ALREADY_EXISTS: grpc.status.ALREADY_EXISTS,
  PERMISSION_DENIED: grpc.status.PERMISSION_DENIED,
  RESOURCE_EXHAUSTED: grpc.status.RESOURCE_EXHAUSTED,
  FAILED_PRECONDITION: grpc.status.FAILED_PRECONDITION,
  UNIMPLEMENTED: grpc.status.UNIMPLEMENTED,
  INTERNAL: grpc.status.INTERNAL,
  UNAVAILABLE: grpc.status.UNAVAILABLE,
};

/** A status travels in a header, and clients refuse large ones. What names the thing and the cause stands at both ends. */
const maxDetails = 4_000;

/** The one place where an error becomes a gRPC status. */
export function statusOf(error: unknown): Status {
  const { code, details } = wholeStatusOf(error);
  if (details.length <= maxDetails) return { code, details };
  return { code, details: `${details.slice(0, maxDetails / 2)} [...] ${details.slice(-maxDetails / 2)}` };
}

function wholeStatusOf(error: unknown): Status {
  if (error instanceof BerthError && error.kind !== "INTERNAL")
    return { code: codes[error.kind], details: error.message };
  // a full disk is the machine's state, not a fault of ours
  if (isDiskFull(error)) return { code: grpc.status.RESOURCE_EXHAUSTED, details: messageOf(error) };
  return { code: grpc.status.INTERNAL, details: messageOf(error) };
}

/** A handler as grpc-js calls it, for a call with one answer. */
export function wrapUnary<Q, A>(
  method: string,
  handle: UnaryHandler<Q, A>,
  around: CallSurroundings,
): grpc.handleUnaryCall<Q, A> {
  return (call, callback) => {
    const ended = beginCall(method, call, around);
    const { signal, release } = abortWhenCancelled(call);
    const answer = async () => handle(call.request, signal);
    const { tracer } = around;
    const traced = tracer?.trace(method, call.metadata, subjectsOf(call.request), answer) ?? answer();
    traced.then(
      (response) => {
        release();
        ended(null);
        callback(null, response);
      },
      (error: unknown) => {
        release();
        callback(ended(signal.aborted ? asCancelled(method, error, call) : error));
      },
    );
  };
}

/** The same for a call whose answer is a stream; the next message is made when the client has room for it. */
export function wrapStream<Q, A>(
  method: string,
  handle: StreamHandler<Q, A>,
  around: CallSurroundings,
): grpc.handleServerStreamingCall<Q, A> {
  return (call) => {
    const ended = beginCall(method, call, around);
    const { signal, release } = abortWhenCancelled(call);
    const send = async () => {
      for await (const message of handle(call.request, signal)) {
        if (!call.write(message)) await drained(method, call, signal);
      }
    };
    const sent = send();
    // its caller knows by it that the call has begun, when there is nothing to tell yet
    call.sendMetadata(new grpc.Metadata());
    sent.then(
      () => {
        release();
        ended(null);
        call.end();
      },
      (error: unknown) => {
        release();
        const status = ended(signal.aborted ? asCancelled(method, error, call) : error);
        if (!signal.aborted) call.emit("error", status);
      },
    );
  };
}

/** Who takes nothing for so long does not want it. */
const patienceMs = 30_000;

async function drained(method: string, call: grpc.ServerWritableStream<unknown, unknown>, signal: AbortSignal) {
  const patience = AbortSignal.timeout(patienceMs);
  try {
    await once(call, "drain", { signal: AbortSignal.any([signal, patience]) });
  } catch (error) {
    if (!patience.aborted) throw error;
    throw new ResourceExhaustedError(`${method}: nothing was taken for ${patienceMs / 1000} s`, { cause: error });
  }
}

interface CancellableCall {
  readonly cancelled: boolean;
  on(event: "cancelled", listener: () => void): unknown;
  off(event: "cancelled", listener: () => void): unknown;
  getDeadline(): grpc.Deadline;
}

/** `release`: from then on the signal stays as it is, for grpc-js says of every call in the end that it is cancelled. */
function abortWhenCancelled(call: CancellableCall): { signal: AbortSignal; release: () => void } {
  const abort = new AbortController();
  const onCancelled = () => abort.abort();
  if (call.cancelled) abort.abort();
  else call.on("cancelled", onCancelled);
  return { signal: abort.signal, release: () => call.off("cancelled", onCancelled) };
}

/** A caller whose time is over hangs up a little earlier than our clock says. */
const deadlineToleranceMs = 250;

/** Whatever a handler throws after its caller has gone, nobody reads it: in the log it is a cancelled call. */
function asCancelled(method: string, error: unknown, call: CancellableCall): unknown {
  if (error instanceof BerthError && error.kind !== "INTERNAL" && error.kind !== "CANCELLED") return error;
  if (Date.now() >= Number(call.getDeadline()) - deadlineToleranceMs) {
    return new DeadlineExceededError(`${method} took longer than its caller wanted to wait`, { cause: error });
  }
  return new CancelledError(`${method} was cancelled by its caller`, { cause: error });
}

interface BegunCall {
  readonly request: unknown;
  readonly metadata: grpc.Metadata;
}

/** Starts the clock; the function that it returns is called once, with the error or null. */
function beginCall(method: string, call: BegunCall, around: CallSurroundings): (error: unknown) => Status {
  const begun = process.hrtime.bigint();
  const subjects = subjectsOf(call.request);
  const isQuiet = quietCall.test(method);
  const remember = around.recentCalls.begin(method, subjects, isQuiet);
  return (error) => {
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
    const status = error === null ? { code: grpc.status.OK, details: "" } : statusOf(error);
    const code = grpc.status[status.code];
    around.observeCall({ method, code, seconds, traceId: recordedTrace(call.metadata) });
    remember(code, error === null ? undefined : status.details);
    const line = { method, code, ms: Math.round(seconds * 1e4) / 10, ...subjects };
    if (error === null) around.log.areas.calls[isQuiet ? "debug" : "info"](line);
    else if (status.code === grpc.status.INTERNAL)
      around.log.areas.calls.error({ ...line, error: status.details, stack: stackOf(error) });
    else around.log.areas.calls[isQuiet ? "info" : "warn"]({ ...line, error: status.details });
    return status;
  };
}

/** Calls that change nothing and come every second: a line each would hide the others. */
const quietCall = /^(?:List|Version|Status|Stream|ExecSync|ImageFsInfo|RuntimeConfig)|(?:Status|Stats)$/;

/** Which thing a request is about. Only names are taken: requests carry credentials and environments, too. */
function subjectsOf(request: unknown): Record<string, string> {
  const { pod_sandbox_id, container_id, image } = request as {
    pod_sandbox_id?: string;
    container_id?: string;
    image?: { image?: string } | null;
  };
  return {
    ...(pod_sandbox_id && { pod: pod_sandbox_id }),
    ...(container_id && { container: container_id }),
    ...(image?.image && { image: image.image }),
  };
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}
