/** A WebSocket client for exec and attach, as kubectl is one; it shares no code with the server. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { messageOf } from "../../sandbox/errors.js";

export interface Refused {
  status: number;
  body: string;
}

export interface ExecStatus {
  status?: string;
  reason?: string;
  message?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
}

const longestHead = 65536;

/** Opens the URL with an upgrade request, and answers the response's head with what came behind it. */
export async function requestUpgrade(
  url: string,
  method: string,
  headers: Record<string, string>,
): Promise<{ socket: Socket; status: number; headers: Map<string, string>; rest: Buffer }> {
  const { hostname, port, pathname, search } = new URL(url);
  const socket = connect(Number(port), hostname.replace(/^\[|\]$/g, ""));
  await once(socket, "connect");
  socket.setNoDelay(true);
  const lines = Object.entries({ Host: `${hostname}:${port}`, Connection: "Upgrade", ...headers });
  socket.write(
    `${method} ${pathname}${search} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`,
  );
  let bytes = Buffer.alloc(0);
  let end = -1;
  const gone = new AbortController();
  socket.once("close", () => gone.abort(new Error("the connection was closed before there was an answer")));
  while (end === -1 && bytes.length < longestHead) {
    const [more] = (await once(socket, "data", { signal: gone.signal })) as [Buffer];
    bytes = Buffer.concat([bytes, more]);
    end = bytes.indexOf("\r\n\r\n");
  }
  socket.pause();
  const [first = "", ...fields] = bytes.toString("latin1", 0, end).split("\r\n");
  const parsed = new Map(
    fields.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  return { socket, status: Number(first.split(" ")[1]), headers: parsed, rest: bytes.subarray(end + 4) };
}

/** A refusal, read to its end. */
export async function bodyOf({ socket, rest }: { socket: Socket; rest: Buffer }): Promise<string> {
  const parts = [rest];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

export class WebSocketClient {
  /** what has come on each channel */
  readonly received = new Map<number, Buffer[]>();
  readonly pings: Buffer[] = [];
  /** of the server's close frame; 0: none has come */
  closeCode = 0;
  closed = false;
  /** the empty message has come by which a server begins */
  greeted = false;
  /** set: messages are not taken for channels' */
  onMessage: (bytes: Buffer) => void = (bytes) => this.unread.push(bytes);
  readonly unread: Buffer[] = [];
  #buffered: Buffer = Buffer.alloc(0);
  #changed: () => void = () => undefined;
  #change = new Promise<void>(() => undefined);

  private constructor(
    readonly socket: Socket,
    readonly protocol: string,
    rest: Buffer,
  ) {
    this.#renew();
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.closed = true;
      this.#changed();
    });
    this.#onData(rest);
    socket.resume();
  }

  /** Rejects with a Refused when the server answers anything but 101. */
  static async open(url: string, protocols: string[] = ["v5.channel.k8s.io"]): Promise<WebSocketClient> {
    const key = randomBytes(16).toString("base64");
    const answer = await requestUpgrade(url, "GET", {
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": key,
      ...(protocols.length > 0 && { "Sec-WebSocket-Protocol": protocols.join(", ") }),
    });
    if (answer.status !== 101) {
      const refused: Refused = { status: answer.status, body: await bodyOf(answer) };
      throw Object.assign(new Error(`refused: ${refused.status} ${refused.body}`), refused);
    }
    const expected = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    if (answer.headers.get("sec-websocket-accept") !== expected) throw new Error("Sec-WebSocket-Accept is wrong");
    return new WebSocketClient(answer.socket, answer.headers.get("sec-websocket-protocol") ?? "", answer.rest);
  }

  /** One masked frame; false when the kernel has no room for it. */
  sendFrame(firstByte: number, payload: Buffer): boolean {
    const mask = randomBytes(4);
    const masked = Buffer.from(payload.map((byte, at) => byte ^ (mask[at & 3] as number)));
    let head: Buffer;
    if (payload.length < 126) head = Buffer.from([firstByte, 0x80 | payload.length]);
    else if (payload.length < 65536) head = Buffer.from([firstByte, 0xfe, payload.length >> 8, payload.length & 0xff]);
    else {
      head = Buffer.alloc(10);
      head[0] = firstByte;
      head[1] = 0xff;
      head.writeBigUInt64BE(BigInt(payload.length), 2);
    }
    return this.socket.write(Buffer.concat([head, mask, masked]));
  }

  send(channel: number, data: Buffer | string): boolean {
    if (this.protocol.includes("base64")) {
      return this.sendFrame(0x81, Buffer.from(`${channel}${Buffer.from(data).toString("base64")}`));
    }
    return this.sendFrame(0x82, Buffer.concat([Buffer.from([channel]), Buffer.from(data)]));
  }

  /** v5: the other side is told that nothing more comes on the channel */
  closeChannel(channel: number): void {
    this.sendFrame(0x82, Buffer.from([255, channel]));
  }

  resize(columns: number, rows: number): void {
    this.send(4, JSON.stringify({ Width: columns, Height: rows }));
  }

  bytes(channel: number): Buffer {
    return Buffer.concat(this.received.get(channel) ?? []);
  }

  text(channel: number): string {
    return this.bytes(channel).toString();
  }

  /** Waits until the condition holds; looked at whenever something has come. */
  async until(what: string, holds: () => boolean, timeoutMs = 10_000): Promise<void> {
    const end = Date.now() + timeoutMs;
    while (!holds()) {
      const left = end - Date.now();
      if (left <= 0 || this.closed)
        throw new Error(`${what} did not come; there is ${JSON.stringify(this.text(1))} ${this.text(3)}`);
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

  /** The status that ends an exec; the connection is closed then. */
  async ended(timeoutMs = 10_000): Promise<ExecStatus> {
    await this.until("the end", () => this.closed || this.closeCode !== 0, timeoutMs);
    const text = this.text(3);
    try {
      return JSON.parse(text) as ExecStatus;
    } catch (error) {
      throw new Error(`the status ${JSON.stringify(text)} is no JSON: ${messageOf(error)}`);
    }
  }

  destroy(): void {
    this.socket.destroy();
  }

  #renew(): void {
    this.#change = new Promise((resolve) => {
      this.#changed = () => {
        this.#renew();
        resolve();
      };
    });
  }

  #onData(bytes: Buffer): void {
    this.#buffered = this.#buffered.length === 0 ? bytes : Buffer.concat([this.#buffered, bytes]);
    for (;;) {
      const [first, second] = this.#buffered;
      if (first === undefined || second === undefined) break;
      if ((second & 0x80) !== 0) throw new Error("the server masks its frames");
      let start = 2;
      let length = second & 0x7f;
      if (length === 126 && this.#buffered.length >= 4) [start, length] = [4, this.#buffered.readUInt16BE(2)];
      else if (length === 127 && this.#buffered.length >= 10)
        [start, length] = [10, Number(this.#buffered.readBigUInt64BE(2))];
      else if (length > 125) break;
      if (this.#buffered.length < start + length) break;
      this.#onFrame(first, this.#buffered.subarray(start, start + length));
      this.#buffered = this.#buffered.subarray(start + length);
    }
    this.#changed();
  }

  #onFrame(first: number, payload: Buffer): void {
    const opcode = first & 0x0f;
    if (opcode === 8) {
      this.closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      this.socket.end();
      return;
    }
    if (opcode === 9) this.sendFrame(0x8a, payload);
    if (opcode === 9 || opcode === 10) this.pings.push(payload);
    if (opcode > 2 || payload.length === 0) return;
    if (this.protocol.startsWith("SPDY/")) {
      this.onMessage(payload);
      return;
    }
    const base64 = this.protocol.includes("base64");
    const channel = (payload[0] as number) - (base64 ? 0x30 : 0);
    const content = payload.subarray(1);
    this.greeted = true;
    const list = this.received.get(channel) ?? [];
    list.push(base64 ? Buffer.from(content.toString(), "base64") : content);
    this.received.set(channel, list);
  }
}
