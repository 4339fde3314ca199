/** The client's side of v5.channel.k8s.io: numbered channels in a WebSocket. */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { FrameParser, Opcode } from "../../streaming/websocket/frames.js";
import { openUpgrade } from "./upgrade.js";

export class ChannelClient {
  onData: (channel: number, bytes: Buffer) => void = () => undefined;
  onDrain: () => void = () => undefined;
  /** once; nothing else comes */
  onClosed: () => void = () => undefined;
  /** of the message that is being read; -1: its first byte has not come */
  #channel = -1;
  readonly #parser = new FrameParser(false, {
    begin: () => {
      this.#channel = -1;
    },
    data: (bytes) => this.#onBytes(bytes),
    end: () => undefined,
    control: (opcode, payload) => this.#onControl(opcode, payload),
  });

  private constructor(private readonly socket: Socket) {
    socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    socket.on("drain", () => this.onDrain());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.onClosed());
    socket.pause();
  }

  /** Nothing is read before resume(). */
  static async open(url: string): Promise<ChannelClient> {
    const { socket, head } = await openUpgrade(url, "GET", {
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
      "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
    });
    const client = new ChannelClient(socket);
    if (head.length > 0) socket.unshift(head);
    return client;
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** False: wait for onDrain before more is sent. */
  send(channel: number, content: Buffer): boolean {
    return this.#sendFrame(Opcode.binary, Buffer.concat([Buffer.of(channel), content]));
  }

  /** The server is told that nothing more comes on the channel. */
  closeChannel(channel: number): void {
    this.#sendFrame(Opcode.binary, Buffer.of(255, channel));
  }

  destroy(): void {
    this.socket.destroy();
  }

  #receive(bytes: Buffer): void {
    try {
      this.#parser.push(bytes);
    } catch {
      this.socket.destroy();
    }
  }

  #onBytes(bytes: Buffer): void {
    let content = bytes;
    if (this.#channel === -1) {
      this.#channel = bytes[0] ?? 0;
      content = bytes.subarray(1);
    }
    if (content.length > 0) this.onData(this.#channel, content);
  }

  #onControl(opcode: number, payload: Buffer): void {
    if (opcode === Opcode.ping) this.#sendFrame(Opcode.pong, payload);
    else if (opcode === Opcode.close) this.socket.end();
  }

  /** Clients' frames are masked. */
  #sendFrame(opcode: number, payload: Buffer): boolean {
    const size = payload.length < 126 ? 2 : payload.length < 65536 ? 4 : 10;
    const frame = Buffer.allocUnsafe(size + 4 + payload.length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (size === 2 ? payload.length : size === 4 ? 126 : 127);
    if (size === 4) frame.writeUInt16BE(payload.length, 2);
    else if (size === 10) frame.writeBigUInt64BE(BigInt(payload.length), 2);
    const mask = randomBytes(4);
    mask.copy(frame, size);
    for (let at = 0; at < payload.length; at++) {
      frame[size + 4 + at] = (payload[at] ?? 0) ^ (mask[at & 3] ?? 0);
    }
    return this.socket.write(frame);
  }
}
