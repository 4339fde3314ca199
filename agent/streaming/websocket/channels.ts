/**
 * Exec and attach over a WebSocket, by Kubernetes' subprotocols *.channel.k8s.io: the first byte of each message (a digit
 * in base64.*) numbers the stream that it belongs to.
 */
import { type Carrier, giveBuffer, headroom, takeBuffer } from "../carrier.js";
import { type ClientStreams, longestResizeMessage, type Outlet, parseSize } from "../client-streams.js";
import { type Outcome, statusBytes } from "../status.js";
import { WebSocketConnection } from "./connection.js";
import { CloseCode, Opcode } from "./frames.js";

export const Channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** Those that the server takes. None (""): binary, as channel.k8s.io. */
export const channelProtocols = [
  "v5.channel.k8s.io",
  "v4.channel.k8s.io",
  "v4.base64.channel.k8s.io",
  "channel.k8s.io",
  "base64.channel.k8s.io",
  "",
];

export class WebSocketChannels implements ClientStreams {
  onStdin: ClientStreams["onStdin"] = () => undefined;
  onStdinEnd: ClientStreams["onStdinEnd"] = () => undefined;
  onResize: ClientStreams["onResize"] = () => undefined;
  onDrain: ClientStreams["onDrain"] = () => undefined;
  onGone: ClientStreams["onGone"] = () => undefined;
  readonly stdout = this.#outlet(Channel.stdout);
  readonly stderr = this.#outlet(Channel.stderr);
  readonly #connection: WebSocketConnection;
  readonly #base64: boolean;
  readonly #asJson: boolean;
  readonly #closeSignals: boolean;
  /** of the message that is being read; -1: its first byte has not come */
  #channel = -1;
  /** what must be whole before it means something: sizes, close signals, base64's groups of four */
  #gathered: Buffer = Buffer.alloc(0);

  /** @param greeting the channel of the empty message by which clients see that everything stands */
  constructor(
    private readonly carrier: Carrier,
    protocol: string,
    private readonly greeting: number,
  ) {
    this.#base64 = protocol.includes("base64");
    this.#asJson = /^v[45]\./.test(protocol);
    this.#closeSignals = protocol.startsWith("v5.");
    this.#connection = new WebSocketConnection(carrier);
    this.#connection.receiver = {
      begin: () => {
        this.#channel = -1;
        this.#gathered = Buffer.alloc(0);
      },
      data: (bytes) => this.#onData(bytes),
      end: () => this.#onMessageEnd(),
    };
    this.#connection.onClosed = () => this.onGone();
    carrier.onDrain = () => this.onDrain();
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

  begin(): void {
    this.#send(this.greeting, takeBuffer(), headroom);
  }

  finish(outcome: Outcome): void {
    const status = statusBytes(outcome, this.#asJson);
    const buffer = Buffer.allocUnsafe(headroom + status.length);
    status.copy(buffer, headroom);
    this.#send(Channel.error, buffer, buffer.length);
    this.#connection.close(CloseCode.normal, "");
  }

  #outlet(channel: number): Outlet {
    return {
      write: (buffer, end) => this.#send(channel, buffer, end),
      // the end of a single stream cannot be told to the client
      end: () => undefined,
    };
  }

  #send(channel: number, buffer: Buffer, end: number): void {
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

  #onData(bytes: Buffer): void {
    let content = bytes;
    if (this.#channel === -1) {
      const [first = 0] = bytes;
      this.#channel = this.#base64 ? first - 0x30 : first;
      content = bytes.subarray(1);
    }
    if (content.length === 0) return;
    if (this.#base64) content = this.#decode(content);
    if (this.#channel === Channel.stdin) {
      if (content.length > 0) this.onStdin(content);
    } else if (this.#channel === Channel.resize || this.#channel === Channel.close) {
      this.#gather(content);
    }
    // what comes on other channels belongs to nothing
  }

  /** Whole groups of four characters; the others wait for the rest. Not for the gathered channels, which are short. */
  #decode(content: Buffer): Buffer {
    if (this.#channel !== Channel.stdin) return content;
    const all = Buffer.concat([this.#gathered, content]);
    const whole = all.length - (all.length % 4);
    this.#gathered = all.subarray(whole);
    return Buffer.from(all.toString("latin1", 0, whole), "base64");
  }

  #gather(content: Buffer): void {
    if (this.#gathered.length + content.length <= longestResizeMessage) {
      this.#gathered = Buffer.concat([this.#gathered, content]);
    } else {
      this.#connection.close(CloseCode.tooBig, "a message to this channel is too long");
    }
  }

  #onMessageEnd(): void {
    const gathered = this.#gathered;
    this.#gathered = Buffer.alloc(0);
    if (this.#channel === Channel.close) {
      if (this.#closeSignals && gathered[0] === Channel.stdin) this.onStdinEnd();
    } else if (this.#channel === Channel.resize) {
      const text = gathered.toString("latin1");
      const size = parseSize(this.#base64 ? Buffer.from(text, "base64").toString("latin1") : text);
      if (size !== null) this.onResize(size.columns, size.rows);
    }
  }
}
