/** One WebSocket of a client: messages in and out, pings answered, closing. */
import { messageOf } from "../../../sandbox/errors.js";
import { type Carrier, Farewell, headroom } from "../carrier.js";
import { CloseCode, FrameParser, Opcode, putHeader, WebSocketError } from "./frames.js";

export interface MessageReceiver {
  begin(binary: boolean): void;
  data(bytes: Buffer): void;
  end(): void;
}

export class WebSocketConnection {
  receiver: MessageReceiver = { begin: () => undefined, data: () => undefined, end: () => undefined };
  onClosed: () => void = () => undefined;
  readonly #parser: FrameParser;
  #closing: Farewell | null = null;

  constructor(private readonly carrier: Carrier) {
    this.#parser = new FrameParser(true, {
      begin: (binary) => this.#closing ?? this.receiver.begin(binary),
      data: (bytes) => this.#closing ?? this.receiver.data(bytes),
      end: () => this.#closing ?? this.receiver.end(),
      control: (opcode, payload) => this.#closing ?? this.#onControl(opcode, payload),
    });
    carrier.onData = (bytes) => this.#onData(bytes);
    carrier.onClosed = () => {
      this.#closing?.over();
      this.onClosed();
    };
    carrier.beat = () => this.#sendControl(Opcode.ping, Buffer.alloc(0));
  }

  /** Sends bytes [start, end) as a message; see Carrier.write. */
  send(opcode: number, buffer: Buffer, start: number, end: number): void {
    if (this.#closing === null) this.carrier.write(buffer, putHeader(buffer, start, end, opcode), end);
  }

  /** Tells the client why, and waits for a while until it closes, too. What it still sends is not looked at. */
  close(code: number, reason: string): void {
    if (this.#closing !== null) return;
    // a control frame has room for 123 bytes of it
    const payload = Buffer.alloc(2 + Math.min(Buffer.byteLength(reason), 123));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.#sendControl(Opcode.close, payload);
    this.#closing = new Farewell(this.carrier);
    this.carrier.resume();
    this.carrier.end();
  }

  #sendControl(opcode: number, payload: Buffer): void {
    const buffer = Buffer.allocUnsafe(headroom + payload.length);
    payload.copy(buffer, headroom);
    this.send(opcode, buffer, headroom, buffer.length);
  }

  #onData(bytes: Buffer): void {
    if (this.#closing !== null) return;
    try {
      this.#parser.push(bytes);
    } catch (error) {
      // whatever a client sends, it must not be the end of more than its own connection
      const code = error instanceof WebSocketError ? error.code : CloseCode.internalError;
      this.close(code, messageOf(error));
    }
  }

  #onControl(opcode: number, payload: Buffer): void {
    if (opcode === Opcode.close) this.close(CloseCode.normal, "");
    // one who does not read is not answered: pongs must not pile up
    else if (opcode === Opcode.ping && this.carrier.hasRoom) this.#sendControl(Opcode.pong, payload);
  }
}
