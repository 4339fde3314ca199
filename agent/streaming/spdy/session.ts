/**
 * The server's side of a SPDY/3.1 session. Clients of Kubernetes send and expect no WINDOW_UPDATE: they are told that their
 * windows have no end worth mentioning, and TCP does what windows are for.
 */
import { messageOf } from "../../../sandbox/errors.js";
import { type Carrier, Farewell, headroom } from "../carrier.js";
import type { Outlet } from "../client-streams.js";
import { FrameParser, FrameType, flagFin, putControlHeader, putDataHeader, SpdyError, StreamStatus } from "./frames.js";
import { HeaderReader, HeaderWriter } from "./headers.js";

/** Open at once. A port-forward has two for each connection. */
const mostStreams = 4096;
const largestWindow = 0x7fffffff;
const firstWindow = 65536;
const initialWindowSetting = 7;

/** A stream that the client has opened. */
export class SpdyStream implements Outlet {
  onData: (bytes: Buffer) => void = () => undefined;
  /** the client sends no more on it */
  onEnd: () => void = () => undefined;
  /** the client has given it up, or is gone; nothing else comes */
  onReset: () => void = () => undefined;
  /** what each side may still send */
  readonly open = { here: true, there: true };
  /** bytes that the client may still send before it is told that it may send more */
  window = largestWindow;

  constructor(
    private readonly session: SpdySession,
    readonly id: number,
    readonly headers: ReadonlyMap<string, string>,
  ) {}

  write(buffer: Buffer, end: number): void {
    this.session.sendData(this, buffer, end, 0);
  }

  end(): void {
    if (this.open.here) this.session.sendData(this, Buffer.allocUnsafe(headroom), headroom, flagFin);
  }

  reset(status: number): void {
    this.session.reset(this, status);
  }
}

export class SpdySession {
  /** A new stream; the answer says whether it is wanted. */
  onStream: (stream: SpdyStream) => boolean = () => false;
  /** once, whoever has ended it */
  onClosed: () => void = () => undefined;
  onDrain: () => void = () => undefined;
  /** why the session was given up; empty: it was not */
  problem = "";
  readonly #parser: FrameParser;
  readonly #reader = new HeaderReader();
  readonly #writer = new HeaderWriter();
  readonly #streams = new Map<number, SpdyStream>();
  #lastId = 0;
  #window = largestWindow;
  #closing: Farewell | null = null;
  /** the client has said that it goes: what it still sends counts no more, however it was cut */
  #left = false;

  constructor(private readonly carrier: Carrier) {
    this.#parser = new FrameParser({
      control: (type, flags, content) => this.#onControl(type, flags, content),
      data: (id, bytes) => this.#onData(id, bytes),
      fin: (id) => this.#left || this.#onFin(id),
    });
    carrier.onData = (bytes) => this.#push(bytes);
    carrier.onDrain = () => this.onDrain();
    carrier.beat = () => this.#sendControl(FrameType.ping, 0, uint32s(0));
    carrier.onClosed = () => this.#onClosed();
    this.#sendControl(FrameType.settings, 0, uint32s(1, initialWindowSetting, largestWindow));
    this.#sendControl(FrameType.windowUpdate, 0, uint32s(0, largestWindow - firstWindow));
  }

  get hasRoom(): boolean {
    return this.carrier.hasRoom;
  }

  pause(): void {
    this.carrier.pause();
  }

  resume(): void {
    this.carrier.resume();
  }

  /** All has been said: waits for a while until the client closes, too. */
  close(): void {
    if (this.#closing !== null) return;
    this.#sendControl(FrameType.goAway, 0, uint32s(this.#lastId, 0));
    this.#closing = new Farewell(this.carrier);
    this.carrier.resume();
    this.carrier.end();
  }

  /** See Outlet.write; for SpdyStream. */
  sendData(stream: SpdyStream, buffer: Buffer, end: number, flags: number): void {
    if (!stream.open.here || this.#closing !== null) return;
    this.carrier.write(buffer, putDataHeader(buffer, headroom, end, stream.id, flags), end);
    if ((flags & flagFin) !== 0) this.#closeHalf(stream, "here");
  }

  reset(stream: SpdyStream, status: number): void {
    if (!this.#streams.delete(stream.id)) return;
    stream.open.here = false;
    stream.open.there = false;
    this.#sendReset(stream.id, status);
  }

  // ---- what comes ----

  #push(bytes: Buffer): void {
    if (this.#closing !== null || this.problem !== "" || this.#left) return;
    try {
      this.#parser.push(bytes);
    } catch (error) {
      // whatever a client sends, it must not be the end of more than its own session
      const protocolError = 1;
      this.problem = messageOf(error);
      this.#sendControl(FrameType.goAway, 0, uint32s(this.#lastId, protocolError));
      this.carrier.destroy();
    }
  }

  #onControl(type: number, flags: number, content: Buffer): void {
    if (this.#closing !== null || this.#left) return;
    const number = (at: number): number => {
      if (content.length < at + 4) throw new SpdyError("a control frame is cut off");
      return content.readUInt32BE(at) & 0x7fffffff;
    };
    switch (type) {
      case FrameType.synStream:
        number(6);
        this.#onSynStream(number(0), flags, content.subarray(10));
        return;
      case FrameType.headers:
        // whatever they say: the compression goes on from them
        this.#reader.read(content.subarray(Math.min(4, content.length)));
        if ((flags & flagFin) !== 0) this.#onFin(number(0));
        return;
      case FrameType.rstStream:
        number(4);
        this.#onReset(number(0));
        return;
      case FrameType.ping:
        number(0);
        // the client's own are odd; the others answer ours. One who does not read is not answered
        if ((content.readUInt32BE(0) & 1) === 1 && this.carrier.hasRoom) this.#sendControl(FrameType.ping, 0, content);
        return;
      case FrameType.goAway:
        // It is how Kubernetes' clients close. One that closes while its streams are still being opened resets none of them,
        // and then waits until the other side is gone: for ever, if this side waited for it.
        this.#left = true;
        this.carrier.destroy();
        return;
      case FrameType.synReply:
        throw new SpdyError("the server has opened no stream");
      case FrameType.windowUpdate:
        number(4);
        return;
      default:
      // settings ask for nothing that matters here; what is unknown is to be ignored
    }
  }

  #onSynStream(id: number, flags: number, block: Buffer): void {
    const headers = this.#reader.read(block);
    if (id % 2 === 0 || id <= this.#lastId) throw new SpdyError(`a stream has the number ${id}, which is not the next`);
    this.#lastId = id;
    const stream = new SpdyStream(this, id, headers);
    if (this.#streams.size >= mostStreams || !this.#isWanted(stream)) {
      this.#sendReset(id, StreamStatus.refusedStream);
      return;
    }
    if ((flags & flagFin) !== 0) this.#onFin(id);
  }

  #isWanted(stream: SpdyStream): boolean {
    // it is answered before anything is sent on it
    this.#streams.set(stream.id, stream);
    const wanted = this.onStream(stream);
    if (wanted)
      this.#sendControl(FrameType.synReply, 0, Buffer.concat([uint32s(stream.id), this.#writer.write(new Map())]));
    else this.#streams.delete(stream.id);
    return wanted;
  }

  #onData(id: number, bytes: Buffer): void {
    if (this.#closing !== null || this.#left) return;
    if (id === 0 || id > this.#lastId) throw new SpdyError(`there is no stream ${id}`);
    this.#window = this.#consume(0, this.#window, bytes.length);
    const stream = this.#streams.get(id);
    // what was on its way when the stream was closed
    if (!stream?.open.there) return;
    stream.window = this.#consume(id, stream.window, bytes.length);
    stream.onData(bytes);
  }

  /** Half of a window is given anew, once in a gigabyte. */
  #consume(id: number, window: number, count: number): number {
    const left = window - count;
    if (left > largestWindow / 2) return left;
    this.#sendControl(FrameType.windowUpdate, 0, uint32s(id, largestWindow - left));
    return largestWindow;
  }

  #onFin(id: number): void {
    const stream = this.#streams.get(id);
    if (!stream?.open.there) return;
    this.#closeHalf(stream, "there");
    stream.onEnd();
  }

  #onReset(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#streams.delete(id);
    stream.open.here = false;
    stream.open.there = false;
    stream.onReset();
  }

  #onClosed(): void {
    this.#closing?.over();
    for (const id of [...this.#streams.keys()]) this.#onReset(id);
    this.onClosed();
  }

  #closeHalf(stream: SpdyStream, half: "here" | "there"): void {
    stream.open[half] = false;
    if (!stream.open.here && !stream.open.there) this.#streams.delete(stream.id);
  }

  // ---- what goes ----

  #sendReset(id: number, status: number): void {
    this.#sendControl(FrameType.rstStream, 0, uint32s(id, status));
  }

  #sendControl(type: number, flags: number, content: Buffer): void {
    if (this.#closing !== null) return;
    const buffer = Buffer.allocUnsafe(headroom + content.length);
    content.copy(buffer, headroom);
    this.carrier.write(buffer, putControlHeader(buffer, headroom, buffer.length, type, flags), buffer.length);
  }
}

function uint32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, index * 4);
  return bytes;
}
