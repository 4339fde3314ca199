/** Exec and attach over a WebSocket: a channel for each of the program's streams. */
import { type Carrier, headroom } from "../carrier.js";
import { type ClientStreams, longestResizeMessage, type Outlet, parseSize } from "../client-streams.js";
import { type Outcome, statusBytes } from "../status.js";
import { ChannelConnection } from "./channel-connection.js";
import { CloseCode } from "./frames.js";

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
  readonly #connection: ChannelConnection;
  readonly #asJson: boolean;
  readonly #closeSignals: boolean;
  /** what must be whole before it means something: sizes and close signals */
  #gathered: Buffer = Buffer.alloc(0);

  /** @param greeting the channel of the empty message by which clients see that everything stands */
  constructor(
    private readonly carrier: Carrier,
    protocol: string,
    private readonly greeting: number,
  ) {
    this.#asJson = /^v[45]\./.test(protocol);
    this.#closeSignals = protocol.startsWith("v5.");
    this.#connection = new ChannelConnection(carrier, protocol, {
      data: (channel, content) => this.#onData(channel, content),
      end: (channel) => this.#onMessageEnd(channel),
    });
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
    this.#connection.send(this.greeting, Buffer.allocUnsafe(headroom), headroom);
  }

  finish(outcome: Outcome): void {
    this.#connection.sendBytes(Channel.error, statusBytes(outcome, this.#asJson));
    this.#connection.close(CloseCode.normal, "");
  }

  #outlet(channel: number): Outlet {
    return {
      write: (buffer, end) => this.#connection.send(channel, buffer, end),
      // the end of a single stream cannot be told to the client
      end: () => undefined,
    };
  }

  #onData(channel: number, content: Buffer): void {
    if (channel === Channel.stdin) this.onStdin(content);
    else if (channel === Channel.resize || channel === Channel.close) this.#gather(content);
    // what comes on other channels belongs to nothing
  }

  #gather(content: Buffer): void {
    if (this.#gathered.length + content.length <= longestResizeMessage) {
      this.#gathered = Buffer.concat([this.#gathered, content]);
    } else {
      this.#connection.close(CloseCode.tooBig, "a message to this channel is too long");
    }
  }

  #onMessageEnd(channel: number): void {
    const gathered = this.#gathered;
    this.#gathered = Buffer.alloc(0);
    if (channel === Channel.close) {
      if (this.#closeSignals && gathered[0] === Channel.stdin) this.onStdinEnd();
    } else if (channel === Channel.resize) {
      const size = parseSize(gathered.toString("latin1"));
      if (size !== null) this.onResize(size.columns, size.rows);
    }
  }
}
