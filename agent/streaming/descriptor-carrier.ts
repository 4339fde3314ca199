/**
 * A client's connection as a descriptor that the agent reads and writes itself: Node's sockets allocate for each read and
 * each write, which costs more than the bytes do.
 */
import type { Socket } from "node:net";
import { native, readable, writable } from "../../native/binding.js";
import { type Carrier, giveBuffer, Heartbeat, keepAliveMs, mostUnsent, silenceMs } from "./carrier.js";
import { Endpoint } from "./endpoint.js";

/** What all clients' bytes come into; see Carrier.onData. */
let incoming: Buffer | null = null;
const incomingBytes = 128 * 1024;
/** Reads of one client in a row, before others get their turn. */
const readsPerTurn = 8;

export class DescriptorCarrier implements Carrier {
  onData: Carrier["onData"] = () => undefined;
  onDrain: Carrier["onDrain"] = () => undefined;
  onClosed: Carrier["onClosed"] = () => undefined;
  beat: Carrier["beat"] = () => undefined;
  readonly #endpoint: Endpoint;
  readonly #heartbeat = new Heartbeat();
  readonly #look: NodeJS.Timeout;
  /** what the kernel has had no room for; `whole`: the buffer that it is a part of */
  #unsent: { whole: Buffer; part: Buffer }[] = [];
  #unsentBytes = 0;
  #paused = false;
  #ending = false;
  /** null: it was given out */
  #head: Buffer | null;

  /**
   * Takes the connection over: the socket is closed.
   * @param head what came with the request's last packet
   * @param patience how often is looked whether anything is heard of a client that was sent something, and for how long not
   */
  constructor(
    socket: Socket,
    head: Buffer,
    private readonly patience = { lookMs: keepAliveMs, silenceMs },
  ) {
    socket.setNoDelay(true);
    this.#endpoint = new Endpoint(native.duplicateDescriptor(descriptorOf(socket) ?? -1));
    socket.destroy();
    this.#endpoint.stream.watchPeer(keepAliveMs / 1000);
    this.#endpoint.onReadable = () => this.#read();
    this.#endpoint.onWritable = () => this.#flush();
    this.#look = setInterval(() => this.#lookForPeer(), patience.lookMs);
    this.#head = head;
    // whoever is to get it is not there yet
    setImmediate(() => this.#begin());
  }

  get hasRoom(): boolean {
    return this.#unsentBytes === 0;
  }

  get allTaken(): boolean {
    return this.#endpoint.closed || (this.#unsentBytes === 0 && this.#endpoint.stream.unacknowledged() === 0);
  }

  write(buffer: Buffer, start: number, end: number): void {
    let sent = 0;
    if (this.#endpoint.closed || this.#ending) sent = end - start;
    else if (this.#unsentBytes === 0) sent = this.#send(buffer.subarray(start, end));
    if (sent === end - start) {
      giveBuffer(buffer);
      return;
    }
    this.#unsent.push({ whole: buffer, part: buffer.subarray(start + sent, end) });
    this.#unsentBytes += end - start - sent;
    if (this.#unsentBytes > mostUnsent) this.destroy();
    else this.#endpoint.want(writable, true);
  }

  pause(): void {
    if (this.#endpoint.closed) return;
    this.#paused = true;
    this.#endpoint.want(readable, false);
    this.#heartbeat.start(() => this.beat());
  }

  resume(): void {
    this.#heartbeat.stop();
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#head === null) this.#endpoint.want(readable, true);
    else setImmediate(() => this.#begin());
  }

  end(): void {
    this.#ending = true;
    if (this.#unsentBytes === 0 && !this.#endpoint.closed) this.#endpoint.stream.endOutput();
  }

  destroy(): void {
    if (this.#endpoint.closed) return;
    this.#endpoint.close();
    this.#heartbeat.stop();
    clearInterval(this.#look);
    this.#unsent = [];
    this.#unsentBytes = 0;
    // whoever has found its end is still at work on it
    setImmediate(() => this.onClosed());
  }

  #lookForPeer(): void {
    const { stream } = this.#endpoint;
    if (stream.unacknowledged() > 0 && stream.silentMs() > this.patience.silenceMs) this.destroy();
  }

  #begin(): void {
    if (this.#paused || this.#endpoint.closed) return;
    const head = this.#head;
    this.#head = null;
    this.#endpoint.want(readable, true);
    if (head !== null && head.length > 0) this.onData(head);
  }

  #read(): void {
    incoming ??= Buffer.allocUnsafeSlow(incomingBytes);
    for (let turn = 0; turn < readsPerTurn && !this.#paused && !this.#endpoint.closed; turn++) {
      const count = this.#endpoint.stream.read(incoming);
      // the client sends no more: neither protocol has a use for half of a connection
      if (count < 0) this.destroy();
      if (count <= 0) return;
      this.onData(incoming.subarray(0, count));
      if (count < incomingBytes) return;
    }
  }

  /** Answers how much needs no more care. */
  #send(bytes: Buffer): number {
    const count = this.#endpoint.stream.write(bytes);
    if (count >= 0) return count;
    this.destroy();
    return bytes.length;
  }

  #flush(): void {
    for (let first = this.#unsent[0]; first !== undefined; first = this.#unsent[0]) {
      const sent = this.#send(first.part);
      if (this.#endpoint.closed) return;
      this.#unsentBytes -= sent;
      if (sent < first.part.length) {
        first.part = first.part.subarray(sent);
        return;
      }
      this.#unsent.shift();
      giveBuffer(first.whole);
    }
    this.#endpoint.want(writable, false);
    if (this.#ending) this.#endpoint.stream.endOutput();
    else this.onDrain();
  }
}

/** null: it has none of its own, as one of TLS */
export function descriptorOf(socket: Socket): number | null {
  const { _handle: handle } = socket as { _handle?: { fd?: unknown } | null };
  return "encrypted" in socket || typeof handle?.fd !== "number" || handle.fd < 0 ? null : handle.fd;
}
