/** A SPDY/3.1 client as Kubernetes' are; beside the compression's dictionary it shares nothing with the server. */
import type { Socket } from "node:net";
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from "node:zlib";
import { dictionary } from "../../agent/streaming/spdy/dictionary.js";
import { bodyOf, type ExecStatus, requestUpgrade, WebSocketClient } from "./websocket-client.js";

/** What carries the session: a socket after its upgrade, or anything like one. */
export interface Pipe {
  write(bytes: Buffer): boolean;
  destroy(): void;
}

export class ClientStream {
  readonly parts: Buffer[] = [];
  replied = false;
  ended = false;
  /** of RST_STREAM */
  resetStatus = 0;

  constructor(
    private readonly client: SpdyClient,
    readonly id: number,
  ) {}

  get text(): string {
    return Buffer.concat(this.parts).toString();
  }

  write(data: Buffer | string, fin = false): boolean {
    const bytes = Buffer.from(data);
    const header = Buffer.alloc(8);
    header.writeUInt32BE(this.id);
    header.writeUInt32BE(bytes.length, 4);
    header[4] = fin ? 1 : 0;
    return this.client.pipe.write(Buffer.concat([header, bytes]));
  }

  end(): void {
    this.write("", true);
  }

  reset(): void {
    this.client.control(3, 0, words(this.id, 5));
  }
}

export class SpdyClient {
  readonly streams = new Map<number, ClientStream>();
  closed = false;
  goneAway = false;
  readonly pings: number[] = [];
  readonly settings: Buffer[] = [];
  readonly #deflate: Deflate = createDeflate({ dictionary });
  readonly #inflate: Inflate = createInflate({ dictionary });
  #nextId = 1;
  #opening: Promise<void> = Promise.resolve();
  #buffered: Buffer = Buffer.alloc(0);
  #changed: () => void = () => undefined;
  #change = new Promise<void>(() => undefined);

  constructor(
    readonly pipe: Pipe,
    readonly protocol: string,
  ) {
    this.#renew();
    this.#inflate.on("data", () => undefined);
  }

  /** Rejects with status and body when the server answers anything but 101. */
  static async open(url: string, protocols: string[] = ["v4.channel.k8s.io"]): Promise<SpdyClient> {
    const answer = await requestUpgrade(url, "POST", {
      Upgrade: "SPDY/3.1",
      "Content-Length": "0",
      ...(protocols.length > 0 && { "X-Stream-Protocol-Version": protocols.join(", ") }),
    });
    if (answer.status !== 101) {
      const body = await bodyOf(answer);
      throw Object.assign(new Error(`refused: ${answer.status} ${body}`), { status: answer.status, body });
    }
    const socket: Socket = answer.socket;
    const client = new SpdyClient(socket, answer.headers.get("x-stream-protocol-version") ?? "");
    socket.on("data", (bytes: Buffer) => client.receive(bytes));
    socket.on("error", () => undefined);
    socket.on("end", () => socket.end());
    socket.on("close", () => client.close());
    client.receive(answer.rest);
    socket.resume();
    return client;
  }

  /** Sends SYN_STREAM; the stream is there when the server has answered. */
  async createStream(headers: Record<string, string>, fin = false): Promise<ClientStream> {
    const stream = new ClientStream(this, this.#nextId);
    this.#nextId += 2;
    this.streams.set(stream.id, stream);
    const pairs = Object.entries(headers).flat();
    const block = Buffer.concat([
      words(pairs.length / 2),
      ...pairs.flatMap((word) => [words(Buffer.byteLength(word)), Buffer.from(word)]),
    ]);
    // one after the other: the compression goes on from block to block
    this.#opening = this.#opening.then(async () => {
      const compressed = await this.#compress(block);
      this.control(1, fin ? 1 : 0, Buffer.concat([words(stream.id, 0), Buffer.alloc(2), compressed]));
    });
    await this.until("the answer to a stream", () => stream.replied || stream.resetStatus !== 0);
    return stream;
  }

  control(type: number, flags: number, content: Buffer): boolean {
    const header = Buffer.from([0x80, 3, 0, type, flags, content.length >> 16, content.length >> 8, content.length]);
    return this.pipe.write(Buffer.concat([header, content]));
  }

  ping(id: number): void {
    this.control(6, 0, words(id));
  }

  receive(bytes: Buffer): void {
    this.#buffered = Buffer.concat([this.#buffered, bytes]);
    while (this.#buffered.length >= 8) {
      const length = this.#buffered.readUIntBE(5, 3);
      if (this.#buffered.length < 8 + length) break;
      this.#onFrame(this.#buffered.subarray(0, 8), this.#buffered.subarray(8, 8 + length));
      this.#buffered = this.#buffered.subarray(8 + length);
    }
    this.#changed();
  }

  close(): void {
    this.closed = true;
    this.#changed();
  }

  destroy(): void {
    this.pipe.destroy();
  }

  async until(what: string, holds: () => boolean, timeoutMs = 10_000): Promise<void> {
    const end = Date.now() + timeoutMs;
    while (!holds()) {
      const left = end - Date.now();
      if (left <= 0 || this.closed)
        throw new Error(`${what} did not come${this.closed ? ": the connection is closed" : ""}`);
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([
        this.#change,
        new Promise<void>((resolve) => {
          timer = setTimeout(resolve, left);
        }),
      ]);
      clearTimeout(timer);
    }
  }

  #renew(): void {
    this.#change = new Promise((resolve) => {
      this.#changed = () => {
        this.#renew();
        resolve();
      };
    });
  }

  #compress(block: Buffer): Promise<Buffer> {
    const parts: Buffer[] = [];
    const onData = (part: Buffer) => parts.push(part);
    this.#deflate.on("data", onData);
    this.#deflate.write(block);
    return new Promise((resolve) => {
      this.#deflate.flush(constants.Z_SYNC_FLUSH, () => {
        this.#deflate.off("data", onData);
        resolve(Buffer.concat(parts));
      });
    });
  }

  #onFrame(header: Buffer, content: Buffer): void {
    if (((header[0] as number) & 0x80) === 0) {
      const stream = this.streams.get(header.readUInt32BE(0));
      if (stream === undefined) throw new Error(`data for the unknown stream ${header.readUInt32BE(0)}`);
      if (stream.ended || !stream.replied) throw new Error(`data for stream ${stream.id} at a wrong time`);
      if (content.length > 0) stream.parts.push(content);
      if (((header[4] as number) & 1) !== 0) stream.ended = true;
      return;
    }
    if (header.readUInt16BE(0) !== 0x8003) throw new Error("a frame of another version");
    const stream = content.length >= 4 ? this.streams.get(content.readUInt32BE(0)) : undefined;
    switch (header.readUInt16BE(2)) {
      case 2:
        if (stream !== undefined) stream.replied = true;
        // what does not inflate is an unhandled error, and fails the test
        this.#inflate.write(content.subarray(4));
        break;
      case 3:
        if (stream !== undefined) stream.resetStatus = content.readUInt32BE(4);
        break;
      case 4:
        this.settings.push(content);
        break;
      case 6:
        this.pings.push(content.readUInt32BE(0));
        break;
      case 7:
        this.goneAway = true;
        break;
      case 9:
        break;
      default:
        throw new Error(`a frame of type ${header.readUInt16BE(2)}`);
    }
  }
}

/** An exec or attach over SPDY, with its streams. */
export async function openRemoteCommand(
  url: string,
  wanted: { stdin?: boolean; stdout?: boolean; stderr?: boolean; tty?: boolean },
  protocols?: string[],
) {
  const client = await SpdyClient.open(url, protocols);
  const error = await client.createStream({ streamtype: "error" });
  const open = async (name: string, is: boolean | undefined) =>
    is ? await client.createStream({ streamtype: name }) : undefined;
  const stdin = await open("stdin", wanted.stdin);
  const stdout = await open("stdout", wanted.stdout);
  const stderr = await open("stderr", wanted.stderr);
  const resize = await open("resize", wanted.tty);
  const ended = async (timeoutMs?: number): Promise<ExecStatus> => {
    const all = [error, stdout, stderr].filter((stream) => stream !== undefined);
    await client.until("the end", () => all.every((stream) => stream.ended), timeoutMs);
    return error.text === "" ? {} : (JSON.parse(error.text) as ExecStatus);
  };
  return { client, error, stdin, stdout, stderr, resize, ended };
}

export function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, index * 4);
  return bytes;
}

/** SPDY in the messages of a WebSocket, as "kubectl port-forward" speaks it. */
export async function openTunnel(url: string): Promise<SpdyClient> {
  const websocket = await WebSocketClient.open(url, ["SPDY/3.1+portforward.k8s.io"]);
  const pipe = {
    write: (bytes: Buffer) => websocket.sendFrame(0x82, bytes),
    destroy: () => websocket.destroy(),
  };
  const client = new SpdyClient(pipe, websocket.protocol);
  websocket.onMessage = (bytes) => client.receive(bytes);
  for (const bytes of websocket.unread) client.receive(bytes);
  return client;
}
