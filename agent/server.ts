/** The gRPC server on the CRI socket. */
import * as grpc from "@grpc/grpc-js";
import { FailedPreconditionError, InvalidArgumentError, messageOf } from "../sandbox/errors.js";
import type { CallTable } from "./call-table.js";
import { type CallSurroundings, type StreamHandler, type UnaryHandler, wrapStream, wrapUnary } from "./call-wrapper.js";
import type { EncodedAnswer } from "./encoded-answer.js";
import { KeptListener } from "./kept-listener.js";
import type { Runtime } from "./runtime.js";
import { encodeAnswer, type Method, messageLimitBytes, serverDefinition, services } from "./services.js";
import { callsOfConnection, UnfinishedRequests, unfinishedLimits } from "./unfinished-requests.js";
import { UnsentAnswers, unsentLimits } from "./unsent-answers.js";

/** How long calls in flight may go on after the server was told to close. */
const closeTimeoutMs = 5_000;

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
  /** the group's number who may connect, beside root */
  readonly group?: number;
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
  const { path, passed, group } = socket;
  checkPassed(socket);
  const listener = new KeptListener({
    path,
    passedFd: passed?.fd,
    group,
    onConnection: (connection) => {
      unsent.watch(connection);
      injector.injectConnection(connection);
    },
    onRestored: () => runtime.node.observer.emit({ type: "restored", what: "socket", subject: path }),
    onLost: (why) => around.log.error(`the socket ${path} was deleted, so that nobody can connect: ${why}`),
  });
  await listener.listen();
  return { close: () => close(listener, server) };
}

function checkPassed({ path, passed }: CriSocket): void {
  if (passed === null || passed.path === path) return;
  const what = `systemd listens on ${passed.path}, and "listen" is ${path}`;
  throw new FailedPreconditionError(`${what}: berth.socket's ListenStream and the setting must be the same`);
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

async function close(listener: KeptListener, server: grpc.Server): Promise<void> {
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
