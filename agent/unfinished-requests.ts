/**
 * Requests that clients have begun to send and not ended. grpc-js keeps each until it is whole, up to the largest that it
 * takes, and of as many calls as a client likes to begin: a client that sends all but the end took gigabytes of the agent.
 * Where all together have more than `inAll`, the connection that has most of it is closed. Of clients that end what they
 * begin there are never so many: a request is in memory no longer than it travels.
 */
import type { Http2Session, ServerHttp2Stream } from "node:http2";
import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";

const MiB = 1024 * 1024;

export const unfinishedLimits = { inAll: 128 * MiB };

/** HTTP/2's own bound, of calls of one connection; clients of gRPC wait for their turn. A kubelet has some dozens. */
export const callsOfConnection = 1_000;

/** gRPC's frame of a message: a byte of flags, four of its length */
const headBytes = 5;

export class UnfinishedRequests {
  readonly #connections = new Map<Http2Session, number>();
  #bytes = 0;

  constructor(
    private readonly limits: typeof unfinishedLimits,
    private readonly sayClosed: (what: string) => void,
  ) {}

  /** Of a call that begins. */
  watch(call: ServerInterceptingCallInterface): void {
    // grpc-js has no option for this, and tells of requests when they are whole
    const { stream } = call as unknown as { stream?: ServerHttp2Stream };
    const connection = stream?.session;
    if (stream === undefined || !connection) return;
    const head = Buffer.alloc(headBytes);
    let came = 0;
    let held = 0;
    const release = () => {
      this.#count(connection, -held);
      held = 0;
      stream.off("data", onData);
      stream.off("close", release);
    };
    const onData = (data: Buffer) => {
      if (came < headBytes) data.copy(head, came, 0, headBytes - came);
      came += data.length;
      if (came >= headBytes && came >= headBytes + head.readUInt32BE(1)) return release();
      held += data.length;
      this.#count(connection, data.length);
    };
    stream.on("data", onData);
    stream.once("close", release);
  }

  #count(connection: Http2Session, bytes: number): void {
    if (bytes === 0) return;
    const held = (this.#connections.get(connection) ?? 0) + bytes;
    if (held > 0) this.#connections.set(connection, held);
    else this.#connections.delete(connection);
    this.#bytes += bytes;
    if (bytes > 0 && this.#bytes > this.limits.inAll) this.#makeRoom();
  }

  #makeRoom(): void {
    const [most] = [...this.#connections].sort(([, one], [, other]) => other - one);
    if (most === undefined) return;
    const [connection, bytes] = most;
    this.sayClosed(
      `a client's connection with ${Math.ceil(bytes / MiB)} MiB of requests that it has not sent to their end was closed: ` +
        `all clients together had ${Math.ceil(this.#bytes / MiB)} MiB`,
    );
    // its streams close later, and give back what they held
    connection.destroy();
  }
}
