/** gRPC's own client, by which tests call the agent as the kubelet does; the command line has one of its own. */
import * as grpc from "@grpc/grpc-js";
import { type Client, definitionOf, socketPath } from "../../agent/cli/client.js";
import { messageLimitBytes } from "../../agent/services.js";

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
          responseDeserialize as (bytes: Buffer) => never,
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
        responseDeserialize as (bytes: Buffer) => never,
        request,
      );
      try {
        for await (const answer of answers) yield answer as never;
      } finally {
        answers.cancel();
      }
    },
    close: () => connection.close(),
  };
}
