/** What carries a session's bytes: a client's connection, or the messages of a WebSocket in which SPDY is tunnelled. */

/** Free bytes that a buffer given to `write` has before its content, for the headers of all layers below. */
export const headroom = 32;

export interface Carrier {
  /** false: no more should be written until `onDrain` */
  readonly hasRoom: boolean;
  /** everything that was written is with the client's kernel, its end, too; or nobody is there to take it */
  readonly allTaken: boolean;
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
  /** The bytes are there during the call alone: their memory is then used for the next ones, of whichever client. */
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

/**
 * Something was sent, and nothing is heard: TCP tries again at least every two minutes, and a client's kernel answers that
 * even when nobody reads. While something is under way, keep-alive does nothing; TCP alone would try for a quarter of an hour.
 */
export const silenceMs = 150_000;

/** How often a client that is not being read is looked at: whether it is still there shows only when it is written to. */
const heartbeatMs = 10_000;
export const keepAliveMs = 30_000;
/** Output waits for room, answers to what a client asks for do not: one who asks and asks and does not read is left. */
export const mostUnsent = 1024 * 1024;

/** How long a client may take to close after all was said and it has taken it. */
const closeMs = 5_000;

/** Of a connection that was ended: leaves it when the client does not. One that has not taken all yet is waited for. */
export class Farewell {
  readonly #timer: NodeJS.Timeout;

  constructor(carrier: Carrier) {
    this.#timer = setInterval(() => {
      if (!carrier.allTaken) return;
      this.over();
      carrier.destroy();
    }, closeMs);
  }

  /** the connection is closed */
  over(): void {
    clearInterval(this.#timer);
  }
}

export class Heartbeat {
  #timer: NodeJS.Timeout | null = null;

  start(beat: () => void): void {
    this.#timer ??= setInterval(beat, heartbeatMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
