/**
 * Answers that clients have not taken yet. HTTP/2 keeps each until its client reads, and a list of a large node has
 * megabytes: a client that asks and does not read took gigabytes of the agent.
 *
 *  - A connection has `perConnection` bytes on their way at most; what is more waits until it has read, and holds nothing
 *    where it can be put together later.
 *  - One that has taken nothing for `patienceMs`, while there was something to take, is closed.
 *  - Where all of them together have more than `inAll`, one is closed: of those that take nothing, or else that have
 *    asked for several, the largest. Clients that read what they ask for never come near it.
 */
import type { Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";

const MiB = 1024 * 1024;

export const unsentLimits = { perConnection: 16 * MiB, inAll: 128 * MiB, patienceMs: 60_000 };
export type UnsentLimits = typeof unsentLimits;

/** It never waits: nobody's memory, and the others of its connection are not kept by what a list needs. */
const smallBytes = 64 * 1024;

/** Of perConnection: with so much on its way, the next long answer is not even begun. */
const begunShare = 1 / 4;

/** Less than this between two looks is no reading: a client may answer pings, and take nothing. */
const readingBytes = 64 * 1024;

/** In patienceMs. */
const looks = 12;

export interface Encoded {
  readonly byteLength: number;
  /** bytes that it holds while it waits */
  readonly heldBytes: number;
}

export type SayClosed = (what: string) => void;

export class UnsentAnswers {
  readonly #connections = new Map<string, Connection>();
  #names = 0;
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    readonly limits: UnsentLimits,
    private readonly sayClosed: SayClosed,
  ) {}

  /** Gives the connection a name, by which its calls' getPeer() tells of it: clients of a unix socket have no address. */
  watch(socket: Socket): void {
    const name = `client-${++this.#names}`;
    Object.defineProperty(socket, "remoteAddress", { value: name });
    const connection = new Connection(socket, this);
    this.#connections.set(name, connection);
    socket.once("close", () => {
      connection.forget();
      this.#connections.delete(name);
    });
  }

  /** For what one of the client's calls sends. */
  ofCall(peer: string): CallAnswers {
    const connection = this.#connections.get(peer);
    // it has gone
    return connection === undefined ? noLimits : new CallOfClient(connection);
  }

  /** @param bytes that have come, or have gone */
  count(bytes: number): void {
    this.#bytes += bytes;
    if (bytes <= 0) return;
    if (this.#bytes > this.limits.inAll) this.#makeRoom();
    this.#timer ??= setInterval(() => this.#look(), this.limits.patienceMs / looks).unref();
  }

  #makeRoom(): void {
    const unread = [...this.#connections.values()].filter(({ bytes }) => bytes > 0);
    for (const connection of unread.sort(byBlame)) {
      if (this.#bytes <= this.limits.inAll) return;
      this.#close(connection, `all clients together had ${inMiB(this.#bytes)}`);
    }
  }

  #look(): void {
    for (const connection of this.#connections.values()) {
      connection.look();
      if (connection.idleLooks <= looks) continue;
      this.#close(connection, `it had taken nothing for ${this.limits.patienceMs / 1000} s`);
    }
    if (this.#bytes > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #close(connection: Connection, why: string): void {
    this.sayClosed(`a client's connection with ${inMiB(connection.bytes)} of unread answers was closed: ${why}`);
    connection.close();
  }
}

class Connection {
  /** unread ones, and what those that wait hold */
  bytes = 0;
  /** in which it took nothing, while there was something; no time, for the agent may have been stopped itself */
  idleLooks = 0;
  #sentBytes = 0;
  /** of those that are on their way */
  #largest = 0;
  readonly #waiting = new Set<Waiting>();
  readonly #onTaken: (() => void)[] = [];
  #lastTurn: Promise<void> = Promise.resolve();
  #writtenBefore = 0;
  #hasTaken = false;
  #isGone = false;

  constructor(
    private readonly socket: Socket,
    private readonly all: UnsentAnswers,
  ) {}

  turn(): Promise<void> {
    this.#lastTurn = this.#lastTurn.then(async () => {
      // a hundred in one turn of the event loop would keep it from everybody else
      await nextTurn();
      while (!this.#isGone && this.#sentBytes > this.all.limits.perConnection * begunShare) {
        await new Promise<void>((resolve) => this.#onTaken.push(resolve));
      }
    });
    return this.#lastTurn;
  }

  /** Undefined: it is on its way already. */
  send(answer: Encoded, send: () => void): Waiting | undefined {
    if (this.#isGone) return undefined;
    if (this.#hasRoomFor(answer) && (this.#waiting.size === 0 || answer.byteLength <= smallBytes)) {
      this.#begin(answer, send);
      return undefined;
    }
    const waiting = { answer, send };
    this.#waiting.add(waiting);
    this.#count(answer.heldBytes);
    return waiting;
  }

  giveUp(waiting: Waiting): void {
    if (this.#waiting.delete(waiting)) this.#count(-waiting.answer.heldBytes);
  }

  taken(bytes: number): void {
    if (bytes === 0 || this.#isGone) return;
    this.#hasTaken = true;
    this.#sentBytes -= bytes;
    this.#count(-bytes);
    this.#tellTaken();
    for (const waiting of this.#waiting) {
      if (!this.#hasRoomFor(waiting.answer)) return;
      this.giveUp(waiting);
      this.#begin(waiting.answer, waiting.send);
    }
  }

  hasSeveral(): boolean {
    return this.bytes > this.#largest;
  }

  look(): void {
    // what HTTP/2 has handed to the kernel, which takes no more than its client reads
    const written = this.socket.bytesWritten;
    const reads = this.#hasTaken || this.bytes === 0 || written - this.#writtenBefore >= readingBytes;
    this.idleLooks = reads ? 0 : this.idleLooks + 1;
    if (!reads) return;
    this.#writtenBefore = written;
    this.#hasTaken = false;
  }

  close(): void {
    this.forget();
    this.socket.destroy();
  }

  forget(): void {
    this.#count(-this.bytes);
    this.#isGone = true;
    this.#waiting.clear();
    this.#tellTaken();
  }

  #tellTaken(): void {
    for (const tell of this.#onTaken.splice(0)) tell();
  }

  #hasRoomFor({ byteLength }: Encoded): boolean {
    if (byteLength <= smallBytes || this.#sentBytes === 0) return true;
    return this.#sentBytes + byteLength <= this.all.limits.perConnection;
  }

  #begin({ byteLength }: Encoded, send: () => void): void {
    this.#sentBytes += byteLength;
    this.#largest = Math.max(this.#largest, byteLength);
    this.#count(byteLength);
    // it may have been closed for that
    if (!this.#isGone) send();
  }

  #count(bytes: number): void {
    if (this.#isGone) return;
    this.bytes += bytes;
    if (this.bytes === 0) this.#largest = 0;
    this.all.count(bytes);
  }
}

interface Waiting {
  readonly answer: Encoded;
  readonly send: () => void;
}

export interface CallAnswers {
  /** Before an answer that costs much: when others of the connection have theirs, or had their turn. */
  turn(): Promise<void>;
  /** Calls `send` now, or when there is room, or never when the call ends before; one after the other. */
  send(answer: Encoded, send: () => void): void;
  taken(bytes: number): void;
  /** All has been taken, or nobody is there to take it. */
  end(): void;
}

export const noLimits: CallAnswers = {
  turn: () => Promise.resolve(),
  send: (_, send) => send(),
  taken: () => undefined,
  end: () => undefined,
};

class CallOfClient implements CallAnswers {
  #untaken = 0;
  #waiting: Waiting | undefined;
  #hasEnded = false;

  constructor(private readonly connection: Connection) {}

  turn(): Promise<void> {
    return this.connection.turn();
  }

  send(answer: Encoded, send: () => void): void {
    if (this.#hasEnded) return;
    this.#waiting = this.connection.send(answer, () => {
      this.#waiting = undefined;
      this.#untaken += answer.byteLength;
      send();
    });
  }

  taken(bytes: number): void {
    if (this.#hasEnded) return;
    this.#untaken -= bytes;
    this.connection.taken(bytes);
  }

  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (this.#waiting !== undefined) this.connection.giveUp(this.#waiting);
    this.connection.taken(this.#untaken);
  }
}

function byBlame(one: Connection, other: Connection): number {
  return (
    Number(other.idleLooks > 1) - Number(one.idleLooks > 1) ||
    Number(other.hasSeveral()) - Number(one.hasSeveral()) ||
    other.bytes - one.bytes
  );
}

function inMiB(bytes: number): string {
  return `${Math.ceil(bytes / MiB)} MiB`;
}
