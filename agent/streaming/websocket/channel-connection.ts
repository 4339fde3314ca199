/**
 * A WebSocket of Kubernetes' subprotocols *.channel.k8s.io: the first byte of each message (a digit in base64.*) numbers
 * the stream that it belongs to.
 */
import { type Carrier, giveBuffer, headroom } from "../carrier.js";
import { WebSocketConnection } from "./connection.js";
import { CloseCode, Opcode } from "./frames.js";

/** as far as it is that */
const base64Text = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{3}=?|[A-Za-z0-9+/]{2}(?:==)?)?/;

export interface ChannelReceiver {
  /** a part of a message's content, never empty */
  data(channel: number, content: Buffer): void;
  /** a message is complete */
  end(channel: number): void;
}

export class ChannelConnection {
  onClosed: () => void = () => undefined;
  readonly #connection: WebSocketConnection;
  readonly #base64: boolean;
  /** of the message that is being read; null: its first byte has not come */
  #channel: number | null = null;
  /** of base64's groups of four, what has not come whole */
  #group: Buffer = Buffer.alloc(0);
  /** the message's last group has come */
  #padded = false;

  constructor(
    carrier: Carrier,
    protocol: string,
    private readonly receiver: ChannelReceiver,
  ) {
    this.#base64 = protocol.includes("base64");
    this.#connection = new WebSocketConnection(carrier);
    this.#connection.receiver = {
      begin: () => {
        this.#channel = null;
        this.#group = Buffer.alloc(0);
        this.#padded = false;
      },
      data: (bytes) => this.#onData(bytes),
      end: () => this.#onMessageEnd(),
    };
    this.#connection.onClosed = () => this.onClosed();
  }

  /** Sends what stands in a buffer between its headroom and `end`; see Carrier.write. */
  send(channel: number, buffer: Buffer, end: number): void {
    if (!this.#base64) {
      buffer[headroom - 1] = channel;
      this.#connection.send(Opcode.binary, buffer, headroom - 1, end);
      return;
    }
    const text = channel + buffer.toString("base64", headroom, end);
    giveBuffer(buffer);
    const encoded = Buffer.allocUnsafe(headroom + text.length);
    encoded.write(text, headroom, "latin1");
    this.#connection.send(Opcode.text, encoded, headroom, encoded.length);
  }

  /** The same of any bytes. */
  sendBytes(channel: number, bytes: Uint8Array): void {
    const buffer = Buffer.allocUnsafe(headroom + bytes.length);
    buffer.set(bytes, headroom);
    this.send(channel, buffer, buffer.length);
  }

  close(code: number, reason: string): void {
    this.#connection.close(code, reason);
  }

  #onData(bytes: Buffer): void {
    let content = bytes;
    if (this.#channel === null) {
      const [first = 0] = bytes;
      this.#channel = this.#base64 ? first - 0x30 : first;
      content = bytes.subarray(1);
    }
    if (this.#base64 && content.length > 0) content = this.#decode(content);
    if (content.length > 0) this.receiver.data(this.#channel, content);
  }

  /** Whole groups of four characters; the others wait for the rest. */
  #decode(content: Buffer): Buffer {
    const all = Buffer.concat([this.#group, content]);
    const whole = all.length - (all.length % 4);
    this.#group = all.subarray(whole);
    return this.#decodeText(all.toString("latin1", 0, whole));
  }

  /** Node's own decoder takes anything, and leaves out what means nothing. */
  #decodeText(text: string): Buffer {
    const valid = this.#padded ? "" : (base64Text.exec(text)?.[0] ?? "");
    if (valid.length < text.length) {
      this.#connection.close(CloseCode.invalidContent, "the message is not base64");
    }
    this.#padded ||= valid.endsWith("=");
    return Buffer.from(valid, "base64");
  }

  #onMessageEnd(): void {
    // without its padding
    const rest = this.#decodeText(this.#group.toString("latin1"));
    // an empty message is of no channel
    if (this.#channel === null) return;
    if (rest.length > 0) this.receiver.data(this.#channel, rest);
    this.receiver.end(this.#channel);
  }
}
