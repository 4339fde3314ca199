/** A client of the agent's socket, typed by services.ts. */
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import type { Command } from "commander";
import { type AnyMethod, messageLimitBytes, methodDefinition, services } from "../services.js";
import { NoAgentError, NotKnownError, sentenceOf, UsageError } from "./failure.js";
import { meantIds } from "./meant-ids.js";

type Services = typeof services;
type Methods = Services["runtime.v1.RuntimeService"] & Services["runtime.v1.ImageService"] & Services["berth.v1.Admin"];
type QuestionOf<M extends AnyMethod> = Parameters<M["request"]["encode"]>[0];
type AnswerOf<M extends AnyMethod> = ReturnType<M["response"]["decode"]>;

type StreamName = {
  [Name in keyof Methods]: Methods[Name]["stream"] extends true ? Name : never;
}[keyof Methods];

export interface Client {
  /** @param timeoutMs for calls that may not wait for ever; pulls and stops have none */
  call<Name extends keyof Methods>(
    name: Name,
    request: QuestionOf<Methods[Name]>,
    timeoutMs?: number,
  ): Promise<AnswerOf<Methods[Name]>>;
  /** A call whose answer is a stream; who stops reading cancels it. */
  stream<Name extends StreamName>(
    name: Name,
    request: QuestionOf<Methods[Name]>,
  ): AsyncIterable<AnswerOf<Methods[Name]>>;
  close(): void;
}

const restartLookMs = 250;

const defaultSocket = "unix:///run/berth/berth.sock";

/** The options that every command with a client has. */
export interface ClientOptions {
  socket: string;
  json?: boolean;
}

/** @param json whether it has an output that can be JSON */
export function addClientOptions(command: Command, { json = true } = {}): Command {
  command.option("--socket <unix:///PATH>", "the agent's CRI socket", process.env["BERTH_SOCKET"] || defaultSocket);
  return json ? command.option("--json", "print JSON") : command;
}

/** Runs `use` with a client that is closed afterwards. NoAgentError: nobody listens on the socket, or no longer. */
export async function withClient<T>(options: ClientOptions, use: (client: Client) => Promise<T>): Promise<T> {
  const path = socketPath(options.socket);
  await checkListening(path);
  const client = connect(options.socket);
  try {
    return await use(client);
  } catch (error) {
    const { code } = error as { code?: unknown };
    // the agent has ended meanwhile, and gRPC says so in many words
    if (code === grpc.status.UNAVAILABLE) await checkListening(path);
    if (code === grpc.status.NOT_FOUND || error instanceof NotKnownError) {
      // "CONTAINER:PATH" of cp
      const words = process.argv.slice(3).map((word) => word.replace(/:.*/s, ""));
      const hint = await meantIds(client, words).catch(() => "");
      if (hint !== "") throw new NotKnownError(`${sentenceOf(error)}${hint}`, { cause: error });
    }
    throw error;
  } finally {
    client.close();
  }
}

/**
 * A call that is made again while no agent answers: one that ends is mostly followed by the next.
 * @param patienceMs for how long @param waits told at the first time
 */
export async function acrossRestarts<T>(
  call: () => Promise<T>,
  patienceMs: number,
  waits: () => void = () => undefined,
): Promise<T> {
  const until = Date.now() + patienceMs;
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if ((error as { code?: unknown }).code !== grpc.status.UNAVAILABLE || Date.now() > until) throw error;
      if (attempt === 1) waits();
      await sleep(restartLookMs);
    }
  }
}

function checkListening(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path, () => {
      socket.destroy();
      resolve();
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      const nobody = error.code === "ENOENT" || error.code === "ECONNREFUSED";
      const closed = error.code === "EACCES" ? `${path} is for root and its group alone (EACCES)` : error.message;
      const sentence = nobody ? `no agent answers on ${path}; is "berth serve" running?` : closed;
      reject(nobody ? new NoAgentError(sentence) : new Error(sentence, { cause: error }));
    });
  });
}

/** A client that its owner closes. Nobody needs to listen yet: calls fail with UNAVAILABLE then. */
export function socketPath(socket: string): string {
  const path = socket.startsWith("unix://") ? socket.slice("unix://".length) : socket;
  if (!path.startsWith("/")) throw new UsageError(`${socket} is not unix:///PATH`);
  return path;
}

/** A client of the socket "unix:///PATH" (or "/PATH"). It connects at its first call, and again when the agent comes back. */
export function connect(socket: string): Client {
  const connection = new grpc.Client(`unix://${socketPath(socket)}`, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": messageLimitBytes,
    "grpc.max_send_message_length": messageLimitBytes,
    // it costs nothing to look whether an agent is back on a unix socket
    "grpc.max_reconnect_backoff_ms": 3_000,
  });
  return {
    call: (name, request, timeoutMs) =>
      new Promise((resolve, reject) => {
        const { path: method, requestSerialize, responseDeserialize } = definitionOf(name);
        const deadline = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
        connection.makeUnaryRequest(
          method,
          requestSerialize as (message: typeof request) => Buffer,
          responseDeserialize as (bytes: Buffer) => AnswerOf<Methods[typeof name]>,
          request,
          new grpc.Metadata(),
          deadline,
          (error, answer) => {
            if (error !== null) reject(error);
            else if (answer !== undefined) resolve(answer);
          },
        );
      }),
    async *stream(name, request) {
      const { path: method, requestSerialize, responseDeserialize } = definitionOf(name);
      const answers = connection.makeServerStreamRequest(
        method,
        requestSerialize as (message: typeof request) => Buffer,
        responseDeserialize as (bytes: Buffer) => AnswerOf<Methods[typeof name]>,
        request,
      );
      try {
        for await (const answer of answers) yield answer as AnswerOf<Methods[typeof name]>;
      } finally {
        answers.cancel();
      }
    },
    close: () => connection.close(),
  };
}

function definitionOf(name: keyof Methods) {
  for (const [service, methods] of Object.entries(services)) {
    const method = (methods as Record<string, AnyMethod>)[name];
    if (method !== undefined) return methodDefinition(service, name, method);
  }
  throw new Error(`there is no call ${name}`);
}
