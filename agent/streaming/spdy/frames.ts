/** SPDY/3.1's framing. Data is passed on as it comes; control frames are short, and gathered. */

export const FrameType = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;

/** Status of RST_STREAM. */
export const StreamStatus = {
  protocolError: 1,
  invalidStream: 2,
  refusedStream: 3,
  cancel: 5,
  internalError: 6,
  flowControlError: 7,
} as const;

export const flagFin = 1;
export const headerBytes = 8;
const version = 3;
/** Of a control frame's content. */
const longestControl = 16 * 1024;

export class SpdyError extends Error {}

export interface FrameReceiver {
  control(type: number, flags: number, content: Buffer): void;
  /** a part of a data frame, never empty */
  data(streamId: number, bytes: Buffer): void;
  /** a data frame with FIN has come to its end */
  fin(streamId: number): void;
}

export class FrameParser {
  readonly #header = Buffer.alloc(headerBytes);
  #headerLength = 0;
  /** of the frame's content, still to come */
  #left = 0;
  #parts: Buffer[] = [];

  constructor(private readonly receiver: FrameReceiver) {}

  /** @throws SpdyError, and what the receiver throws */
  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#headerLength < headerBytes) {
        const end = Math.min(bytes.length, at + headerBytes - this.#headerLength);
        bytes.copy(this.#header, this.#headerLength, at, end);
        this.#headerLength += end - at;
        at = end;
        if (this.#headerLength === headerBytes) this.#begin();
        continue;
      }
      const part = bytes.subarray(at, at + this.#left);
      at += part.length;
      this.#left -= part.length;
      if (this.#isControl) this.#parts.push(Buffer.from(part));
      else this.receiver.data(this.#streamId, part);
      if (this.#left === 0) this.#end();
    }
  }

  get #isControl(): boolean {
    return ((this.#header[0] ?? 0) & 0x80) !== 0;
  }

  get #streamId(): number {
    return this.#header.readUInt32BE(0) & 0x7fffffff;
  }

  #begin(): void {
    this.#left = this.#header.readUIntBE(5, 3);
    if (this.#isControl) {
      if ((this.#header.readUInt16BE(0) & 0x7fff) !== version) throw new SpdyError("a frame is not of SPDY/3");
      if (this.#left > longestControl) throw new SpdyError(`a control frame is longer than ${longestControl} bytes`);
    }
    if (this.#left === 0) this.#end();
  }

  #end(): void {
    this.#headerLength = 0;
    const flags = this.#header[4] ?? 0;
    if (this.#isControl) {
      const content = Buffer.concat(this.#parts);
      this.#parts = [];
      this.receiver.control(this.#header.readUInt16BE(2), flags, content);
    } else if ((flags & flagFin) !== 0) {
      this.receiver.fin(this.#streamId);
    }
  }
}

/** Puts a data frame's header right before `start`; answers where the frame begins. */
export function putDataHeader(buffer: Buffer, start: number, end: number, streamId: number, flags: number): number {
  const at = start - headerBytes;
  buffer.writeUInt32BE(streamId, at);
  buffer.writeUInt32BE(((flags << 24) | (end - start)) >>> 0, at + 4);
  return at;
}

/** The same for a control frame. */
export function putControlHeader(buffer: Buffer, start: number, end: number, type: number, flags: number): number {
  const at = start - headerBytes;
  buffer.writeUInt32BE((((0x8000 | version) << 16) | type) >>> 0, at);
  buffer.writeUInt32BE(((flags << 24) | (end - start)) >>> 0, at + 4);
  return at;
}
