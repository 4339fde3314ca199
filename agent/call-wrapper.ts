/**
 * Around every call: cancellation, timer, log line, error → status. The socket is bound only after recovery, so that a
 * call never meets a half-known node.
 */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import * as grpc from "@grpc/grpc-js";
import type { FinishedCall } from "../metrics/own.js";
import {
  BerthError,
  CancelledError,
  DeadlineExceededError,
  type FailureKind,
  messageOf,
  ResourceExhaustedError,
} from "../sandbox/errors.js";
import { machineTrouble } from "../sandbox/machine-trouble.js";
import { withRequestId } from "../sandbox/request-id.js";
import { ProgramReport } from "../sandbox/rootfs/confined-process.js";
import type { EncodedAnswer } from "./encoded-answer.js";
import type { Log } from "./log.js";
import type { RecentCalls } from "./recent-calls.js";
import { type TraceParent, traceParent } from "./trace-context.js";
import type { Tracer } from "./tracing/tracer.js";
import { type CallAnswers, noLimits, type UnsentAnswers } from "./unsent-answers.js";

export interface CallSurroundings {
  log: Log;
  observeCall: (call: FinishedCall) => void;
  recentCalls: RecentCalls;
  /** absent: nobody wants traces */
  tracer?: Tracer | undefined;
  /** absent: as much as clients like may wait for them */
  unsent?: UnsentAnswers | undefined;
}

/** `requestId`: of calls that are quiet it has to be passed along; of others see request-id.ts */
export type UnaryHandler<Q, A> = (request: Q, signal: AbortSignal, requestId: string) => A | Promise<A>;
export type StreamHandler<Q, A> = (request: Q, signal: AbortSignal, requestId: string) => AsyncIterable<A>;

export interface Status {
  code: grpc.status;
  details: string;
  metadata?: grpc.Metadata;
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
  const trouble = machineTrouble(error);
  const hasItsKind = error instanceof BerthError && error.kind !== "INTERNAL";
  if (trouble !== undefined && (!hasItsKind || trouble.outranks)) {
    return { code: codes[trouble.kind], details: `${trouble.sentence ?? messageOf(error)}: ${trouble.remedy}` };
  }
  return { code: hasItsKind ? codes[error.kind] : grpc.status.INTERNAL, details: messageOf(error) };
}

/** A handler as grpc-js calls it, for a call with one answer. */
export function wrapUnary<Q, A>(
  method: string,
  handle: UnaryHandler<Q, A>,
  around: CallSurroundings,
  encode: (answer: A) => EncodedAnswer,
): grpc.handleUnaryCall<Q, EncodedAnswer> {
  const passesItsId = quietCall.test(method);
  return (call, callback) => {
    const { ended, parent, requestId } = beginCall(method, call, around);
    const { signal, release } = abortWhenCancelled(call);
    const answers = answersOf(call, around);
    const handled = async () => handle(call.request, signal, requestId);
    const answer = passesItsId ? handled : () => withRequestId(requestId, handled);
    const { tracer } = around;
    // a caller's own trace has the id already
    const about = () => ({ ...subjectsOf(call.request), ...(parent === undefined && { request: requestId }) });
    const traced = tracer?.trace(method, parent, about(), answer) ?? answer();
    const encoded = traced.then(encode);
    encoded.then(
      (response) => {
        release();
        ended(null);
        answers.send(response, () => callback(null, response));
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
  encode: (answer: A) => EncodedAnswer,
): grpc.handleServerStreamingCall<Q, EncodedAnswer> {
  const isEndless = endlessCall.test(method);
  const isList = method.startsWith("Stream");
  return (call) => {
    const { ended, requestId } = beginCall(method, call, around);
    const { signal, release } = abortWhenCancelled(call);
    const answers = answersOf(call, around);
    const send = async () => {
      if (isList) await untilAborted(answers.turn(), signal);
      for await (const message of handle(call.request, signal, requestId)) {
        const encoded = encode(message);
        let isWritten = false;
        let hasRoom = true;
        answers.send(encoded, () => {
          hasRoom = call.write(encoded, () => answers.taken(encoded.byteLength));
          isWritten = true;
          call.emit("written");
        });
        if (!isWritten) await taken(method, call, "written", signal);
        if (!hasRoom) await taken(method, call, "drain", signal);
      }
    };
    const sent = isEndless ? send() : withRequestId(requestId, send);
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

function untilAborted(waited: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    waited.then(resolve, reject);
  });
}

async function taken(
  method: string,
  call: grpc.ServerWritableStream<unknown, unknown>,
  event: "written" | "drain",
  signal: AbortSignal,
): Promise<void> {
  const patience = AbortSignal.timeout(patienceMs);
  try {
    await once(call, event, { signal: AbortSignal.any([signal, patience]) });
  } catch (error) {
    if (!patience.aborted) throw error;
    throw new ResourceExhaustedError(`${method}: nothing was taken for ${patienceMs / 1000} s`, { cause: error });
  }
}

/** grpc-js says of every call in the end that it is cancelled: when all of its answer has left HTTP/2, or its client has. */
function answersOf(call: CancellableCall & { getPeer(): string }, { unsent }: CallSurroundings): CallAnswers {
  if (unsent === undefined) return noLimits;
  const answers = unsent.ofCall(call.getPeer());
  if (call.cancelled) answers.end();
  else call.on("cancelled", () => answers.end());
  return answers;
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

interface Begun {
  /** called once, with the error or null */
  ended: (error: unknown) => Status;
  /** the caller's trace, where it tells of one */
  parent: TraceParent | undefined;
  requestId: string;
}

/** Starts the clock. */
function beginCall(method: string, call: BegunCall, around: CallSurroundings): Begun {
  const begun = process.hrtime.bigint();
  const subjects = subjectsOf(call.request);
  const isQuiet = quietCall.test(method);
  const parent = traceParent(call.metadata);
  const requestId = parent?.traceId ?? nextId();
  const remember = around.recentCalls.begin(method, requestId, subjects, isQuiet);
  const ended = (error: unknown): Status => {
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
    const status: Status = error === null ? { code: grpc.status.OK, details: "" } : statusOf(error);
    const code = grpc.status[status.code];
    around.observeCall({ method, code, seconds, traceId: parent?.recorded ? parent.traceId : undefined });
    remember(code, error === null ? undefined : status.details);
    const line = { request: requestId, method, code, ms: Math.round(seconds * 1e4) / 10, ...subjects };
    if (error === null) around.log.areas.calls[isQuiet ? "debug" : "info"](line);
    else if (status.code === grpc.status.INTERNAL) {
      status.metadata = new grpc.Metadata();
      status.metadata.set("berth-request-id", requestId);
      around.log.areas.calls.error({ ...line, error: status.details, report: reportIn(error), stack: stackOf(error) });
    } else
      around.log.areas.calls[isQuiet ? "info" : "warn"]({ ...line, error: status.details, report: reportIn(error) });
    return status;
  };
  return { ended, parent, requestId };
}

let lastId = randomInt(2 ** 32);

/** Eight hexadecimal digits. An agent's begin anywhere, and come again after four thousand million calls. */
function nextId(): string {
  lastId = (lastId + 0x9e3779b1) >>> 0;
  return lastId.toString(16).padStart(8, "0");
}

/** Calls that change nothing and come every second: a line each would hide the others. */
const quietCall = /^(?:List|Version|Status|Stream|ExecSync|ImageFsInfo|RuntimeConfig)|(?:Status|Stats)$/;

/** Streams that go on for long and do nothing that a log would tell of: while they ran, each exec would cost more. */
const endlessCall = /^(?:List|Stream|Watch|GetContainerEvents$|ProfileCpu$)/;

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

/** What a program of ours has said of its failure, as it has said it. */
function reportIn(error: unknown): string | undefined {
  if (error instanceof ProgramReport) return error.message;
  return error instanceof Error ? reportIn(error.cause) : undefined;
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}
