/** Exec and attach over SPDY: a stream for each of the program's, named by the header "streamtype". */
import type { Carrier } from "../carrier.js";
import { headroom } from "../carrier.js";
import {
  type ClientStreams,
  longestResizeMessage,
  type Outlet,
  parseSize,
  type WantedStreams,
} from "../client-streams.js";
import { type Outcome, statusBytes } from "../status.js";
import { SpdySession, type SpdyStream } from "./session.js";

export const remoteCommandProtocols = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/** How long a client may take to open the streams that it has asked for. */
const openMs = 30_000;
/** Of what it sends before it has opened all of them. */
const mostEarlyBytes = 64 * 1024;
const noBytes = Buffer.alloc(0);

export class SpdyChannels implements ClientStreams {
  onStdin: ClientStreams["onStdin"] = () => undefined;
  onStdinEnd: ClientStreams["onStdinEnd"] = () => undefined;
  onResize: ClientStreams["onResize"] = () => undefined;
  onDrain: ClientStreams["onDrain"] = () => undefined;
  onGone: ClientStreams["onGone"] = () => undefined;
  readonly stdout = this.#outlet("stdout");
  readonly stderr = this.#outlet("stderr");
  readonly #session: SpdySession;
  readonly #streams = new Map<string, SpdyStream>();
  readonly #asJson: boolean;
  /** of a size that has not come whole */
  #size = "";
  /** what has come before there was anybody to take it; null: there is */
  #early: (() => void)[] | null = [];
  #earlyBytes = 0;

  /** @param whenOpen once all streams are there that the client has to open */
  constructor(carrier: Carrier, protocol: string, wanted: WantedStreams, whenOpen: () => void) {
    this.#asJson = protocol.startsWith("v4.");
    const expected = new Set(["error", ...(["stdin", "stdout", "stderr"] as const).filter((name) => wanted[name])]);
    if (wanted.tty && /^v[34]\./.test(protocol)) expected.add("resize");
    const timer = setTimeout(() => carrier.destroy(), openMs);
    const take = (act: (bytes: Buffer) => void) => (bytes: Buffer) => {
      if (this.#early === null) return act(bytes);
      this.#earlyBytes += bytes.length;
      if (this.#earlyBytes > mostEarlyBytes) return carrier.destroy();
      const kept = Buffer.from(bytes);
      this.#early.push(() => act(kept));
    };
    this.#session = new SpdySession(carrier);
    this.#session.onStream = (stream) => {
      const type = stream.headers.get("streamtype") ?? "";
      if (!expected.delete(type)) return false;
      this.#streams.set(type, stream);
      if (type === "stdin") {
        stream.onData = take((bytes) => this.onStdin(bytes));
        stream.onEnd = () => take(() => this.onStdinEnd())(noBytes);
        stream.onReset = stream.onEnd;
      } else if (type === "resize") {
        stream.onData = take((bytes) => this.#onSize(bytes));
      }
      if (expected.size > 0) return true;
      clearTimeout(timer);
      whenOpen();
      const early = this.#early ?? [];
      this.#early = null;
      for (const act of early) act();
      return true;
    };
    this.#session.onClosed = () => {
      clearTimeout(timer);
      this.onGone();
    };
    this.#session.onDrain = () => this.onDrain();
  }

  get hasRoom(): boolean {
    return this.#session.hasRoom;
  }

  pause(): void {
    this.#session.pause();
  }

  resume(): void {
    this.#session.resume();
  }

  begin(): void {
    // its streams were answered already
  }

  finish(outcome: Outcome): void {
    const status = statusBytes(outcome, this.#asJson);
    const error = this.#streams.get("error");
    if (status.length > 0) {
      const buffer = Buffer.allocUnsafe(headroom + status.length);
      status.copy(buffer, headroom);
      error?.write(buffer, buffer.length);
    }
    for (const stream of this.#streams.values()) stream.end();
    this.#session.close();
  }

  #outlet(name: string): Outlet {
    return {
      write: (buffer, end) => this.#streams.get(name)?.write(buffer, end),
      end: () => this.#streams.get(name)?.end(),
    };
  }

  /** JSON objects without further ones in them, one behind the other. */
  #onSize(bytes: Buffer): void {
    this.#size = (this.#size + bytes.toString("latin1")).slice(-longestResizeMessage);
    for (let end = this.#size.indexOf("}"); end !== -1; end = this.#size.indexOf("}")) {
      const size = parseSize(this.#size.slice(0, end + 1));
      this.#size = this.#size.slice(end + 1);
      if (size !== null) this.onResize(size.columns, size.rows);
    }
  }
}
