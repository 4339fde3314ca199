/**
 * WebSocket's framing (RFC 6455, section 5), both ways, without extensions. Messages are passed on as they come: nothing
 * is gathered, so that their length needs no limit.
 */

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Codes of section 7.4.1. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  unsupportedData: 1003,
  invalidContent: 1007,
  tooBig: 1009,
  internalError: 1011,
} as const;

export class WebSocketError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
    this.name = "WebSocketError";
  }
}

export interface FrameReceiver {
  /** a text or binary message begins */
  begin(binary: boolean): void;
  /** a part of it, never empty */
  data(bytes: Buffer): void;
  /** it is complete */
  end(): void;
  /** ping, pong or close, whole */
  control(opcode: number, payload: Buffer): void;
}

const longestControl = 125;
/** of a frame: two bytes, a length of eight, a mask of four */
const longestHeader = 14;

/** Cuts frames out of a stream of bytes, and unmasks them in place. */
export class FrameParser {
  readonly #header = Buffer.alloc(longestHeader);
  #headerLength = 0;
  #headerWanted = 2;
  #inFrame = false;
  /** of the frame's payload, still to come */
  #left = 0;
  #opcode = 0;
  #final = false;
  #inMessage = false;
  readonly #mask = new Uint8Array(4);
  #maskAt = 0;
  #control: Buffer[] = [];

  /** @param masked frames of clients are masked, those of servers are not; anything else is refused */
  constructor(
    private readonly masked: boolean,
    private readonly receiver: FrameReceiver,
  ) {}

  /** @throws WebSocketError */
  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (!this.#inFrame) {
        at = this.#readHeader(bytes, at);
        if (this.#inFrame && this.#left === 0) this.#endFrame();
        continue;
      }
      const part = bytes.subarray(at, at + this.#left);
      at += part.length;
      this.#left -= part.length;
      if (this.masked) this.#unmask(part);
      if (this.#opcode >= Opcode.close) this.#control.push(Buffer.from(part));
      else this.receiver.data(part);
      if (this.#left === 0) this.#endFrame();
    }
  }

  #readHeader(bytes: Buffer, from: number): number {
    const header = this.#header;
    const end = Math.min(bytes.length, from + this.#headerWanted - this.#headerLength);
    bytes.copy(header, this.#headerLength, from, end);
    this.#headerLength += end - from;
    if (this.#headerLength < this.#headerWanted) return end;
    const [first = 0, second = 0] = header;
    const short = second & 0x7f;
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (this.#headerWanted === 2) {
      this.#checkStart(first, second);
      this.#headerWanted = 2 + extended + (this.masked ? 4 : 0);
      if (this.#headerWanted > 2) return end;
    }
    this.#inFrame = true;
    this.#left = short;
    if (extended === 2) this.#left = header.readUInt16BE(2);
    if (extended === 8) this.#left = toLength(header.readBigUInt64BE(2));
    header.copy(this.#mask, 0, 2 + extended, 6 + extended);
    this.#maskAt = 0;
    this.#headerLength = 0;
    this.#headerWanted = 2;
    return end;
  }

  #checkStart(first: number, second: number): void {
    const opcode = first & 0x0f;
    const final = (first & 0x80) !== 0;
    if ((first & 0x70) !== 0) throw protocolError("a frame uses an extension that was not agreed on");
    if (((second & 0x80) !== 0) !== this.masked)
      throw protocolError(this.masked ? "a frame is not masked" : "a frame is masked");
    if (opcode > Opcode.pong || (opcode > Opcode.binary && opcode < Opcode.close))
      throw protocolError(`a frame has the opcode ${opcode}, which means nothing`);
    if (opcode >= Opcode.close) {
      if (!final) throw protocolError("a control frame is fragmented");
      if ((second & 0x7f) > longestControl) throw protocolError("a control frame is longer than 125 bytes");
    } else if (opcode === Opcode.continuation) {
      if (!this.#inMessage) throw protocolError("there is no message that a frame could continue");
    } else {
      if (this.#inMessage) throw protocolError("a message begins within another one");
      this.#inMessage = true;
      this.receiver.begin(opcode === Opcode.binary);
    }
    this.#opcode = opcode;
    this.#final = final;
  }

  #endFrame(): void {
    this.#inFrame = false;
    if (this.#opcode >= Opcode.close) {
      const payload = Buffer.concat(this.#control);
      this.#control = [];
      this.receiver.control(this.#opcode, payload);
    } else if (this.#final) {
      this.#inMessage = false;
      this.receiver.end();
    }
  }

  #unmask(part: Buffer): void {
    const mask = this.#mask;
    let at = 0;
    for (; at < part.length && ((part.byteOffset + at) & 3) !== 0; at++) this.#unmaskByte(part, at);
    if (at === part.length) return;
    const words = new Uint32Array(part.buffer, part.byteOffset + at, (part.length - at) >>> 2);
    const turned = new Uint8Array(4);
    for (let i = 0; i < 4; i++) turned[i] = mask[(this.#maskAt + i) & 3] ?? 0;
    const word = new Uint32Array(turned.buffer)[0] ?? 0;
    for (let i = 0; i < words.length; i++) words[i] = (words[i] ?? 0) ^ word;
    for (at += words.length * 4; at < part.length; at++) this.#unmaskByte(part, at);
  }

  #unmaskByte(part: Buffer, at: number): void {
    part[at] = (part[at] ?? 0) ^ (this.#mask[this.#maskAt & 3] ?? 0);
    this.#maskAt++;
  }
}

function protocolError(message: string): WebSocketError {
  return new WebSocketError(CloseCode.protocolError, message);
}

function toLength(length: bigint): number {
  if (length > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError("a frame has an impossible length");
  return Number(length);
}

/** Puts an unmasked frame's header right before `start`; answers where the frame begins. */
export function putHeader(buffer: Buffer, start: number, end: number, opcode: number): number {
  const length = end - start;
  const size = length < 126 ? 2 : length < 65536 ? 4 : 10;
  const at = start - size;
  buffer[at] = 0x80 | opcode;
  if (size === 2) {
    buffer[at + 1] = length;
  } else if (size === 4) {
    buffer[at + 1] = 126;
    buffer.writeUInt16BE(length, at + 2);
  } else {
    buffer[at + 1] = 127;
    buffer.writeUInt32BE(0, at + 2);
    buffer.writeUInt32BE(length, at + 6);
  }
  return at;
}
