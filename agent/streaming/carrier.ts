/** What carries a session's bytes: a client's socket, or the messages of a WebSocket in which SPDY is tunnelled. */
import type { Socket } from "node:net";

/** Free bytes that a buffer given to `write` has before its content, for the headers of all layers below. */
export const headroom = 32;

export interface Carrier {
  /** false: no more should be written until `onDrain` */
  readonly hasRoom: boolean;
  /** Sends bytes [start, end). The buffer goes back to `giveBuffer` or to the carrier: the caller must not use it again. */
  write(buffer: Buffer, start: number, end: number): void;
  /** no more `onData` until resume(), except for what was read already */
  pause(): void;
  resume(): void;
  /** after what was written */
  end(): void;
  destroy(): void;
  /** something harmless of the protocol, sent to a client that is not being read */
  beat: () => void;
  onData: (bytes: Buffer) => void;
  onDrain: () => void;
  /** once, whoever has ended it */
  onClosed: () => void;
}

/** Of one read. A pipe's default capacity is as much. */
export const chunkBytes = 64 * 1024;

let spare: Buffer | null = null;

/** A buffer for one chunk of output, to be filled from `headroom` on. One is enough while clients keep up. */
export function takeBuffer(): Buffer {
  const buffer = spare ?? Buffer.allocUnsafeSlow(headroom + chunkBytes);
  spare = null;
  return buffer;
}

export function giveBuffer(buffer: Buffer): void {
  if (buffer.length === headroom + chunkBytes) spare = buffer;
}

/** How often a client that is not being read is looked at: whether it is still there shows only when it is written to. */
const heartbeatMs = 10_000;
const keepAliveMs = 30_000;
/** Output waits for room, answers to what a client asks for do not: one who asks and asks and does not read is left. */
const mostUnsent = 1024 * 1024;

export class SocketCarrier implements Carrier {
  onData: Carrier["onData"] = () => undefined;
  onDrain: Carrier["onDrain"] = () => undefined;
  onClosed: Carrier["onClosed"] = () => undefined;
  beat: Carrier["beat"] = () => undefined;
  #heartbeat: NodeJS.Timeout | null = null;

  /** `head`: what came with the request's last packet */
  constructor(
    private readonly socket: Socket,
    head: Buffer,
  ) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    socket.setTimeout(0);
    socket.on("data", (bytes: Buffer) => this.onData(bytes));
    socket.on("drain", () => this.onDrain());
    // the client sends no more: neither protocol has a use for half of a connection
    socket.on("end", () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.#stopHeartbeat();
      this.onClosed();
    });
    if (head.length > 0) socket.unshift(head);
  }

  get hasRoom(): boolean {
    return this.socket.writableLength === 0 || !this.socket.writableNeedDrain;
  }

  write(buffer: Buffer, start: number, end: number): void {
    if (!this.socket.destroyed && !this.socket.writableEnded) this.socket.write(buffer.subarray(start, end));
    // nothing of it waits for the kernel
    if (this.socket.writableLength === 0) giveBuffer(buffer);
    if (this.socket.writableLength > mostUnsent) this.socket.destroy();
  }

  pause(): void {
    this.socket.pause();
    this.#heartbeat ??= setInterval(() => this.beat(), heartbeatMs);
  }

  resume(): void {
    this.#stopHeartbeat();
    this.socket.resume();
  }

  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }

  #stopHeartbeat(): void {
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    this.#heartbeat = null;
  }
}
