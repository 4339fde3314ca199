/** SPDY in the binary messages of a WebSocket: how port-forwards pass proxies that know no SPDY. */
import type { Carrier } from "../carrier.js";
import { WebSocketConnection } from "./connection.js";
import { CloseCode, Opcode } from "./frames.js";

export class TunnelCarrier implements Carrier {
  onData: Carrier["onData"] = () => undefined;
  onDrain: Carrier["onDrain"] = () => undefined;
  onClosed: Carrier["onClosed"] = () => undefined;
  /** not needed: the WebSocket has its own */
  beat: Carrier["beat"] = () => undefined;
  readonly #connection: WebSocketConnection;

  constructor(private readonly carrier: Carrier) {
    this.#connection = new WebSocketConnection(carrier);
    this.#connection.receiver = {
      begin: (binary) => {
        if (!binary) this.#connection.close(CloseCode.unsupportedData, "only binary messages are expected");
      },
      data: (bytes) => this.onData(bytes),
      end: () => undefined,
    };
    this.#connection.onClosed = () => this.onClosed();
    carrier.onDrain = () => this.onDrain();
  }

  get hasRoom(): boolean {
    return this.carrier.hasRoom;
  }

  get allTaken(): boolean {
    return this.carrier.allTaken;
  }

  write(buffer: Buffer, start: number, end: number): void {
    this.#connection.send(Opcode.binary, buffer, start, end);
  }

  pause(): void {
    this.carrier.pause();
  }

  resume(): void {
    this.carrier.resume();
  }

  end(): void {
    this.#connection.close(CloseCode.normal, "");
  }

  destroy(): void {
    this.carrier.destroy();
  }
}
