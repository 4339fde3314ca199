/**
 * gRPC's calls over node:http2, as far as a client of the agent's socket needs them: a question, its answers, deadlines and
 * cancellation. @grpc/grpc-js does that and much more: a command would spend 50 ms of processor time on loading it.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import { createConnection } from "node:net";
import { messageOf } from "../../sandbox/errors.js";

/** gRPC's numbers, those that clients ask for */
export const callCodes = {
  deadlineExceeded: 4,
  notFound: 5,
  resourceExhausted: 8,
  internal: 13,
  unavailable: 14,
} as const;

/** A call that failed: the agent's own sentence, or why there is none. */
export class CallError extends Error {
  constructor(
    /** gRPC's number */
    readonly code: number,
    readonly details: string,
    /** by which the agent's log has more */
    readonly requestId?: string,
  ) {
    super(details);
    this.name = "CallError";
  }
}

interface Ended {
  code: number;
  details: string;
  requestId?: string | undefined;
}

/** What may be on its way before it is taken: a heap's snapshot comes in pieces of a megabyte. */
const windowBytes = 1024 * 1024;
const longestTimeoutMs = 99_999_999;
const prefixBytes = 5;

/** A connection to a unix socket, which is made at the first call, and again at the first one after it was lost. */
export class CallConnection {
  #session: ClientHttp2Session | undefined;

  constructor(
    private readonly path: string,
    private readonly messageLimitBytes: number,
  ) {}

  /** The answers' bytes, one after the other; who stops reading cancels the call. CallError: it has failed. */
  async *answers(method: string, question: Uint8Array, timeoutMs?: number): AsyncGenerator<Buffer, void> {
    let ended: Ended | undefined;
    const stream = this.#open().request({
      ":method": "POST",
      ":path": method,
      "content-type": "application/grpc",
      te: "trailers",
      ...(timeoutMs !== undefined && { "grpc-timeout": `${Math.min(Math.ceil(timeoutMs), longestTimeoutMs)}m` }),
    });
    const onHeaders = (headers: IncomingHttpHeaders) => {
      ended ??= statusIn(headers);
    };
    // in the first ones where there is no answer
    stream.on("response", onHeaders);
    stream.on("trailers", onHeaders);
    // told by the iterator
    stream.on("error", () => undefined);
    const timer =
      timeoutMs !== undefined &&
      setTimeout(() => {
        ended ??= { code: callCodes.deadlineExceeded, details: `no answer came within ${timeoutMs / 1000} s` };
        stream.close(constants.NGHTTP2_CANCEL);
      }, timeoutMs);
    stream.end(framed(question));
    try {
      yield* messages(stream, this.messageLimitBytes);
    } catch (error) {
      if (error instanceof CallError) throw error;
      ended ??= { code: callCodes.unavailable, details: `the connection was lost: ${messageOf(error)}` };
    } finally {
      if (timer !== false) clearTimeout(timer);
      if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
    }
    ended ??= { code: callCodes.unavailable, details: "the connection was lost before the answer" };
    if (ended.code !== 0) throw new CallError(ended.code, ended.details, ended.requestId);
  }

  /** Ends the calls that are going on, too. */
  close(): void {
    this.#session?.destroy();
  }

  #open(): ClientHttp2Session {
    if (this.#session === undefined || this.#session.closed || this.#session.destroyed) {
      this.#session = connect("http://localhost", {
        createConnection: () => createConnection(this.path),
        settings: { enablePush: false, initialWindowSize: windowBytes },
      });
      // its calls are told
      this.#session.on("error", () => undefined);
    }
    return this.#session;
  }
}

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + message.length);
  frame.writeUInt8(0);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, prefixBytes);
  return frame;
}

/** gRPC's messages: a byte that says whether it is compressed (none is asked for), four of its length, and itself. */
async function* messages(stream: ClientHttp2Stream, limitBytes: number): AsyncGenerator<Buffer, void> {
  let parts: Buffer[] = [];
  let held = 0;
  let wanted = prefixBytes;
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    parts.push(chunk as Buffer);
    held += (chunk as Buffer).length;
    while (held >= wanted) {
      const bytes = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, held);
      const end = prefixBytes + bytes.readUInt32BE(1);
      if (end > prefixBytes + limitBytes) {
        throw new CallError(
          callCodes.resourceExhausted,
          `the answer has ${end - prefixBytes} bytes; ${limitBytes} at most are taken`,
        );
      }
      if (held >= end) yield bytes.subarray(prefixBytes, end);
      const rest = held >= end ? bytes.subarray(end) : bytes;
      wanted = held >= end ? prefixBytes : end;
      held = rest.length;
      parts = [rest];
    }
  }
}

function statusIn(headers: IncomingHttpHeaders): Ended | undefined {
  const code = headers["grpc-status"];
  if (code === undefined) return undefined;
  const details = String(headers["grpc-message"] ?? "");
  return {
    code: Number(code),
    details: unescaped(details) || `gRPC's status ${code}`,
    requestId: headers["berth-request-id"]?.toString(),
  };
}

/** gRPC's messages are percent-encoded UTF-8. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
