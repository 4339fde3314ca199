/** A client's connection as a socket of Node's: what TLS needs. */
import type { Socket } from "node:net";
import { type Carrier, giveBuffer, Heartbeat, keepAliveMs, mostUnsent } from "./carrier.js";

export class SocketCarrier implements Carrier {
  onData: Carrier["onData"] = () => undefined;
  onDrain: Carrier["onDrain"] = () => undefined;
  onClosed: Carrier["onClosed"] = () => undefined;
  beat: Carrier["beat"] = () => undefined;
  readonly #heartbeat = new Heartbeat();

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
      this.#heartbeat.stop();
      this.onClosed();
    });
    if (head.length > 0) socket.unshift(head);
  }

  get hasRoom(): boolean {
    return this.socket.writableLength === 0 || !this.socket.writableNeedDrain;
  }

  get allTaken(): boolean {
    // what the kernel has, it goes on sending after the socket was closed
    return this.socket.destroyed || this.socket.writableLength === 0;
  }

  write(buffer: Buffer, start: number, end: number): void {
    if (!this.socket.destroyed && !this.socket.writableEnded) this.socket.write(buffer.subarray(start, end));
    // nothing of it waits for the kernel
    if (this.socket.writableLength === 0) giveBuffer(buffer);
    if (this.socket.writableLength > mostUnsent) this.socket.destroy();
  }

  pause(): void {
    if (this.socket.destroyed) return;
    this.socket.pause();
    this.#heartbeat.start(() => this.beat());
  }

  resume(): void {
    this.#heartbeat.stop();
    this.socket.resume();
  }

  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}
