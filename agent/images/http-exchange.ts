/**
 * One request and its answer. Layers come by gigabytes, and a buffer of its own for each piece would keep the garbage
 * collector busy: sockets read into a few buffers again and again, and a body is handed out piece by piece.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import type { buildConnector, Dispatcher } from "undici";
import "../closing-connections.js";

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: AnswerBody;
}

type Controller = Dispatcher.DispatchController;

/** Sends a request by a dispatcher. @throws what undici fails with, or the signal's reason */
export function exchange(
  dispatcher: Dispatcher,
  url: URL,
  options: { method: "GET" | "POST"; headers: Record<string, string>; body?: string },
  signal: AbortSignal,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const body = new AnswerBody();
    const stop = (): void => body.fail(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    body.onEnd = () => signal.removeEventListener("abort", stop);
    body.onFailure = reject;
    const request = { ...options, origin: url.origin, path: `${url.pathname}${url.search}` };
    dispatcher.dispatch(request, {
      onRequestStart: (controller) => body.start(controller),
      onResponseStart(_, status, headers) {
        // before an answer there may be others that say only that it will come
        if (status >= 200) resolve({ status, headers, body });
      },
      onResponseData: (_, piece) => body.take(piece),
      onResponseEnd: () => body.end(),
      onResponseError: (_, error) => body.fail(error),
    });
  });
}

/** Its pieces are valid until the next one is asked for: whoever keeps one copies it. */
export class AnswerBody implements AsyncIterableIterator<Uint8Array> {
  onEnd = (): void => undefined;
  onFailure = (_error: unknown): void => undefined;
  #controller: Controller | undefined;
  #piece: Uint8Array | undefined;
  #isOver = false;
  #failure: { error: unknown } | undefined;
  #waiting: { resolve(): void } | undefined;

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#piece === undefined && !this.#isOver) {
      const come = new Promise<void>((resolve) => {
        this.#waiting = { resolve };
      });
      this.#controller?.resume();
      await come;
    }
    const value = this.#piece;
    this.#piece = undefined;
    if (value !== undefined) return { done: false, value };
    if (this.#failure !== undefined) throw this.#failure.error;
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.destroy();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** What has not come yet is not wanted. */
  destroy(): void {
    this.fail(new Error("the answer is not wanted any more"));
  }

  start(controller: Controller): void {
    if (this.#isOver) controller.abort(this.#failure?.error as Error);
    this.#controller = controller;
  }

  take(piece: Uint8Array): void {
    // the parser's greeting after a pause
    if (piece.length === 0) return;
    this.#controller?.pause();
    this.#piece = piece;
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.onEnd();
    this.#wake();
  }

  fail(error: unknown): void {
    if (this.#isOver) return;
    this.#failure = { error };
    this.end();
    this.#controller?.abort(error as Error);
    this.onFailure(error);
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }
}

const readBytes = 128 * 1024;
/** One is being handed out, one waits in the socket, and one is read into. */
const buffersOfSocket = 3;

/**
 * A connector whose sockets read into buffers of their own, in turn. Those of TLS do not: they bring many pieces at a time,
 * whether or not they are told to stop.
 * @param build of undici @param options for TLS and for the connection
 */
export function reusingConnector(
  build: typeof buildConnector,
  options: buildConnector.BuildOptions,
): buildConnector.connector {
  const usual = build(options);
  return (target, callback) => {
    if (target.protocol === "https:") return usual(target, callback);
    const buffers = Array.from({ length: buffersOfSocket }, () => Buffer.allocUnsafeSlow(readBytes));
    let current = 0;
    const onread = {
      buffer: (): Buffer => buffers[current] as Buffer,
      // of the socket, which stops reading while a piece waits in it
      callback(this: Socket, bytes: number, buffer: Buffer): boolean {
        const piece = buffer.subarray(0, bytes);
        // the parser has given the rest of a piece back, and its beginning is being handed out
        if (this.readableLength > 0) return this.push(Buffer.from(piece));
        current = (current + 1) % buffersOfSocket;
        return this.push(piece);
      },
    };
    const own = { ...options, onread, highWaterMark: 1 };
    return build(own)(target, callback);
  };
}
