/** The gRPC server on the CRI socket. */
import { chmodSync } from "node:fs";
import { createServer, type Server } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { FailedPreconditionError, InvalidArgumentError, messageOf } from "../sandbox/errors.js";
import { makeWayForSocket } from "../sandbox/listening-socket.js";
import type { CallTable } from "./call-table.js";
import { type CallSurroundings, type StreamHandler, type UnaryHandler, wrapStream, wrapUnary } from "./call-wrapper.js";
import type { EncodedAnswer } from "./encoded-answer.js";
import type { Runtime } from "./runtime.js";
import { encodeAnswer, type Method, messageLimitBytes, serverDefinition, services } from "./services.js";
import { callsOfConnection, UnfinishedRequests, unfinishedLimits } from "./unfinished-requests.js";
import { UnsentAnswers, unsentLimits } from "./unsent-answers.js";

/** How long calls in flight may go on after the server was told to close. */
const closeTimeoutMs = 5_000;

/** Connections that wait to be accepted. */
const backlog = 511;

/**
 * After so long each client is asked whether it is there, and it has as long to answer. Node's HTTP/2 stops to read from one
 * that has broken the protocol, and would never learn that it has gone: its descriptor stayed open for ever.
 */
const askAfterMs = 60_000;

export interface CriServer {
  /** Refuses new calls, lets those in flight end (for a while), removes the socket. */
  close(): Promise<void>;
}

export interface CriSocket {
  readonly path: string;
  /** it listens already: who started the agent has made it, and keeps it */
  readonly passed: { readonly fd: number; readonly path: string } | null;
}

/** Binds the socket (mode 0660), unless it was passed, and serves; the socket answers when this returns. */
export async function serveCri(
  socket: CriSocket,
  runtime: Runtime,
  calls: CallTable,
  around: CallSurroundings,
): Promise<CriServer> {
  return serve(socket, runtime, calls, around, () => true);
}

/** The same with some of the calls. `patienceMs`: see askAfterMs; `limits`: of answers that clients do not take; `requestLimits`: of requests
 *  that they do not end. */
export async function serve(
  socket: CriSocket,
  runtime: Runtime,
  calls: CallTable,
  around: CallSurroundings,
  has: (name: string) => boolean,
  patienceMs = askAfterMs,
  limits = unsentLimits,
  requestLimits = unfinishedLimits,
): Promise<CriServer> {
  const unfinished = new UnfinishedRequests(requestLimits, (what) => around.log.warn(what));
  const server = new grpc.Server({
    "grpc.max_concurrent_streams": callsOfConnection,
    "grpc.keepalive_time_ms": patienceMs,
    "grpc.keepalive_timeout_ms": patienceMs,
    "grpc.max_receive_message_length": messageLimitBytes,
    "grpc.max_send_message_length": messageLimitBytes,
    interceptors: [
      (_, call) => {
        unfinished.watch(call);
        // as it is: an interceptor's own costs each call something
        return call as grpc.ServerInterceptingCall;
      },
    ],
  });
  const unsent = new UnsentAnswers(limits, (what) => around.log.warn(what));
  addCalls(server, runtime, calls, { ...around, unsent }, has);
  // grpc-js cannot listen on a descriptor: it is given the connections
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const listener = createServer((connection) => {
    unsent.watch(connection);
    injector.injectConnection(connection);
  });
  await listenOn(listener, socket);
  return { close: () => close(listener, server) };
}

async function listenOn(listener: Server, { path, passed }: CriSocket): Promise<void> {
  if (passed !== null && passed.path !== path) {
    const what = `systemd listens on ${passed.path}, and "listen" is ${path}`;
    throw new FailedPreconditionError(`${what}: berth.socket's ListenStream and the setting must be the same`);
  }
  if (passed === null) await makeWayForSocket(path);
  await new Promise<void>((resolve, reject) => {
    listener.once("error", (error) => {
      reject(new FailedPreconditionError(`the socket ${path} cannot be bound: ${error.message}`, { cause: error }));
    });
    listener.listen(passed === null ? { path, backlog } : { fd: passed.fd }, resolve);
  });
  if (passed === null) chmodSync(path, 0o660);
}

function addCalls(
  server: grpc.Server,
  runtime: Runtime,
  calls: CallTable,
  around: CallSurroundings,
  has: (name: string) => boolean,
): void {
  for (const [service, methods] of Object.entries(services)) {
    const definition: Record<string, grpc.MethodDefinition<unknown, EncodedAnswer>> = {};
    const implementation: grpc.UntypedServiceImplementation = {};
    // each handler fits its own method (the call table's type says so), which a loop over all of them cannot express
    for (const [name, method] of Object.entries<Method<unknown, unknown, unknown, unknown>>(methods)) {
      if (!has(name)) continue;
      const handle = calls[name as keyof CallTable] as (
        runtime: Runtime,
        request: unknown,
        signal: AbortSignal,
        requestId: string,
      ) => never;
      const answer = (request: unknown, signal: AbortSignal, requestId: string) =>
        handle(runtime, readable(request), signal, requestId);
      const encode = (message: unknown) => encodeAnswer(method, message);
      definition[name] = tellingOfUnreadable(serverDefinition(service, name, method));
      implementation[name] = method.stream
        ? wrapStream(name, answer as StreamHandler<unknown, unknown>, around, encode)
        : wrapUnary(name, answer as UnaryHandler<unknown, unknown>, around, encode);
    }
    server.addService(definition, implementation);
  }
}

/** A request that is no message of its type, or has text that is not UTF-8. */
class Unreadable {
  constructor(readonly error: unknown) {}
}

/** Left to grpc-js, its caller would not be told what is wrong, and there would be no line in the log. */
function tellingOfUnreadable<Q, A>(definition: grpc.MethodDefinition<Q, A>): grpc.MethodDefinition<unknown, A> {
  const requestDeserialize = (bytes: Buffer) => {
    try {
      return definition.requestDeserialize(bytes);
    } catch (error) {
      return new Unreadable(error);
    }
  };
  return {
    ...definition,
    requestSerialize: definition.requestSerialize as (value: unknown) => Buffer,
    requestDeserialize,
  };
}

function readable(request: unknown): unknown {
  if (!(request instanceof Unreadable)) return request;
  const { error } = request;
  throw new InvalidArgumentError(`the request cannot be read: ${messageOf(error)}`, { cause: error });
}

async function close(listener: Server, server: grpc.Server): Promise<void> {
  listener.close();
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, closeTimeoutMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
