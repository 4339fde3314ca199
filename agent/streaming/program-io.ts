/**
 * Bytes between a program's descriptors and a client, each way with back-pressure: what one side does not take stays with
 * the other, and no more than what one read has brought waits in between.
 */
import { readable, writable } from "../../native/binding.js";
import { chunkBytes, giveBuffer, headroom, takeBuffer } from "./carrier.js";
import type { Outlet } from "./client-streams.js";
import type { Endpoint } from "./endpoint.js";

/** What a read of a stream that was cut off answers. */
const brokenOff = -2;
/** Reads of one stream in a row, before the others get their turn. */
const readsPerTurn = 16;
/** Of a client that sends before there is anybody to take it. */
const mostWaiting = 64 * 1024;
/** The same of all that one client has opened. */
const mostWaitingOfClient = 1024 * 1024;
/** What a piece costs beside its bytes. */
const pieceBytes = 128;

/** From a program to its client. */
export class Output {
  #programEnded = false;
  #ended = false;
  /** it was cut off: what the client has got is not all */
  brokenOff = false;

  /**
   * @param client hasRoom: whether the client takes more; resume() is called when it does again
   * @param onEnd once: everything that there was is passed on
   */
  constructor(
    private readonly endpoint: Endpoint,
    private readonly outlet: Outlet,
    private readonly client: { readonly hasRoom: boolean },
    private readonly onEnd: () => void,
  ) {
    endpoint.onReadable = () => this.#pass();
    endpoint.want(readable, true);
  }

  resume(): void {
    if (this.#ended) return;
    this.endpoint.want(readable, true);
    if (this.#programEnded) this.#pass();
  }

  /** The program has ended: what is there now is the last of it, whoever else may still hold the other end. */
  programEnded(): void {
    this.#programEnded = true;
    this.#pass();
  }

  #pass(): void {
    for (let turn = 0; turn < readsPerTurn && !this.#ended; turn++) {
      if (!this.client.hasRoom) {
        this.endpoint.want(readable, false);
        return;
      }
      const count = this.#programEnded && !this.endpoint.stream.hasInput() ? -1 : this.#passOnce();
      if (count < 0) this.#end();
      // less than there was room for: nothing more is there at this moment
      if (count < chunkBytes && !this.#programEnded) return;
      if (count <= 0) return;
    }
  }

  /** Answers what the read did. */
  #passOnce(): number {
    const buffer = takeBuffer();
    const count = this.endpoint.stream.read(buffer.subarray(headroom));
    if (count > 0) this.outlet.write(buffer, headroom + count);
    else giveBuffer(buffer);
    if (count === brokenOff) this.brokenOff = true;
    return count;
  }

  #end(): void {
    this.#ended = true;
    this.endpoint.want(readable, false);
    this.outlet.end();
    this.onEnd();
  }
}

/** Who has ended it: the client, or the program, which reads it no more. */
export type InputEnd = "client" | "program";

/** From a client to a program. What comes before the program is there waits, too. */
export class Input {
  /** copies: see Carrier.onData */
  #waiting: Buffer[] = [];
  /** what they cost, before there is a program */
  #waitingBytes = 0;
  #endpoint: Endpoint | null = null;
  #onEnd: (by: InputEnd) => void = () => undefined;
  #started = false;
  #ending = false;
  #discarding = false;
  #paused = false;

  /**
   * @param client is paused while the program does not take what there is
   * @param waiting what waits in all of the client's before there is somebody to take it
   */
  constructor(
    private readonly client: { pause(): void; resume(): void },
    private readonly waiting = { bytes: 0 },
  ) {}

  /** Before there is a program: nothing more is read of the client until start(). */
  hold(): void {
    this.#setPaused(true);
  }

  /**
   * @param endpoint null: what comes is thrown away
   * @param onEnd once, after what came before it was passed on; or when nobody reads it any more
   */
  start(endpoint: Endpoint | null, onEnd: (by: InputEnd) => void): void {
    this.#started = true;
    this.#countNoMore();
    this.#endpoint = endpoint;
    this.#onEnd = onEnd;
    this.#discarding = endpoint === null;
    if (endpoint !== null) endpoint.onWritable = () => this.#flush();
    this.#flush();
  }

  write(bytes: Buffer): void {
    if (this.#discarding || this.#ending) return;
    const taken = this.#started && this.#waiting.length === 0 ? this.#pass(bytes) : 0;
    if (taken < bytes.length) this.#waiting.push(Buffer.from(bytes.subarray(taken)));
    if (!this.#started) {
      this.#waitingBytes += bytes.length + pieceBytes;
      this.waiting.bytes += bytes.length + pieceBytes;
      if (this.#waitingBytes >= mostWaiting || this.waiting.bytes >= mostWaitingOfClient) this.#setPaused(true);
    } else if (this.#discarding) {
      this.#end("program");
    } else if (taken < bytes.length) {
      this.#awaitRoom();
    }
  }

  /** Nothing is passed on any more. */
  discard(): void {
    this.#discarding = true;
    this.#countNoMore();
    this.#onEnd = () => undefined;
    this.#waiting = [];
    this.#endpoint?.want(writable, false);
    this.#setPaused(false);
  }

  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    if (this.#started && this.#waiting.length === 0) this.#end("client");
  }

  #countNoMore(): void {
    this.waiting.bytes -= this.#waitingBytes;
    this.#waitingBytes = 0;
  }

  /** Answers how much of it needs no more care. */
  #pass(bytes: Buffer): number {
    const count = this.#endpoint?.stream.write(bytes) ?? -1;
    if (count >= 0) return count;
    // nobody reads it: what else comes is thrown away, as a broken pipe would do
    this.#discarding = true;
    return bytes.length;
  }

  #flush(): void {
    while (this.#waiting.length > 0 && !this.#discarding) {
      const [first = Buffer.alloc(0)] = this.#waiting;
      const taken = this.#pass(first);
      if (taken < first.length) {
        this.#waiting[0] = first.subarray(taken);
        this.#awaitRoom();
        return;
      }
      this.#waiting.shift();
    }
    this.#waiting = [];
    this.#endpoint?.want(writable, false);
    this.#setPaused(false);
    if (this.#ending) this.#end("client");
    else if (this.#discarding && this.#endpoint !== null) this.#end("program");
  }

  #awaitRoom(): void {
    this.#endpoint?.want(writable, true);
    this.#setPaused(true);
  }

  #end(by: InputEnd): void {
    const onEnd = this.#onEnd;
    this.#onEnd = () => undefined;
    onEnd(by);
  }

  #setPaused(paused: boolean): void {
    if (paused === this.#paused) return;
    this.#paused = paused;
    if (paused) this.client.pause();
    else this.client.resume();
  }
}
