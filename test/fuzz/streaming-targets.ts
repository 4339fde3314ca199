/** What the fuzzer feeds: each target takes a client's bytes in pieces, and answers what has come of them. */
import assert from "node:assert/strict";
import { constants, deflateSync } from "node:zlib";
import { type Carrier, giveBuffer } from "../../agent/streaming/carrier.js";
import type { ClientStreams } from "../../agent/streaming/client-streams.js";
import { serveForwards } from "../../agent/streaming/port-forward.js";
import { SpdyChannels } from "../../agent/streaming/spdy/channels.js";
import { dictionary } from "../../agent/streaming/spdy/dictionary.js";
import { HeaderWriter } from "../../agent/streaming/spdy/headers.js";
import { WebSocketChannels } from "../../agent/streaming/websocket/channels.js";
import { TunnelCarrier } from "../../agent/streaming/websocket/tunnel.js";
import { words } from "../support/spdy-client.js";

/** What the server may send for each byte, beside what it always says: a refusal of 16 bytes for a frame of 18. */
const answerPerByte = 4;
const greetingBytes = 4096;

class FakeCarrier implements Carrier {
  onData: Carrier["onData"] = () => undefined;
  onDrain: Carrier["onDrain"] = () => undefined;
  onClosed: Carrier["onClosed"] = () => undefined;
  beat: Carrier["beat"] = () => undefined;
  readonly hasRoom = true;
  readonly allTaken = true;
  sent = 0;
  closed = false;

  write(buffer: Buffer, start: number, end: number): void {
    assert.ok(start >= 0 && start <= end && end <= buffer.length);
    // as a socket that has ended
    if (!this.closed) this.sent += end - start;
    giveBuffer(buffer);
  }

  pause(): void {}

  resume(): void {}

  end(): void {
    this.closed = true;
  }

  destroy(): void {
    this.closed = true;
  }
}

interface Outcome {
  /** texts of a kind that follow each other are one */
  events: string[];
  sent: number;
  closed: boolean;
}

function run(
  pieces: readonly Buffer[],
  open: (carrier: Carrier, tell: (kind: string, text?: string) => void) => void,
): Outcome {
  const carrier = new FakeCarrier();
  const events: string[] = [];
  let last = "";
  open(carrier, (kind, text) => {
    if (text !== undefined && kind === last) events[events.length - 1] += text;
    else events.push(text === undefined ? kind : `${kind} ${text}`);
    last = text === undefined ? "" : kind;
  });
  let fed = 0;
  for (const piece of pieces) {
    if (carrier.closed) break;
    fed += piece.length;
    // parsers unmask in place, and may keep nothing of it: see Carrier.onData
    const lent = Buffer.from(piece);
    carrier.onData(lent);
    lent.fill(0xa5);
  }
  const { sent, closed } = carrier;
  carrier.onClosed();
  // a session that was given up has told what it had to; how much was in the same piece behind it does not count
  if (!closed) assert.ok(sent <= greetingBytes + answerPerByte * fed, `${sent} bytes for ${fed}`);
  return { events, sent, closed };
}

function tellAll(client: ClientStreams, tell: (kind: string, text?: string) => void): void {
  client.onStdin = (bytes) => tell("stdin", bytes.toString("latin1"));
  client.onStdinEnd = () => tell("end of stdin");
  client.onResize = (columns, rows) => tell(`size ${columns}x${rows}`);
  client.onGone = () => tell("gone");
}

const everything = { stdin: true, stdout: true, stderr: true, tty: true };

function webSocket(protocol: string) {
  return (pieces: readonly Buffer[]): Outcome =>
    run(pieces, (carrier, tell) => {
      const client = new WebSocketChannels(carrier, protocol, 1);
      tellAll(client, tell);
    });
}

function forwards(wrap: (carrier: Carrier) => Carrier) {
  return (pieces: readonly Buffer[]): Outcome =>
    run(pieces, (carrier, tell) => {
      const refuse = (port: number): Promise<number> => {
        tell(`connect ${port}`);
        return new Promise<never>(() => undefined);
      };
      serveForwards(wrap(carrier), refuse, (port, problem) => `${port}: ${problem}`);
    });
}

export const targets = {
  "websocket-v5": webSocket("v5.channel.k8s.io"),
  "websocket-base64": webSocket("v4.base64.channel.k8s.io"),
  "spdy-exec": (pieces: readonly Buffer[]): Outcome =>
    run(pieces, (carrier, tell) => {
      const client: SpdyChannels = new SpdyChannels(carrier, "v4.channel.k8s.io", everything, () => tell("open"));
      tellAll(client, tell);
    }),
  "spdy-forward": forwards((carrier) => carrier),
  "tunnel-forward": forwards((carrier) => new TunnelCarrier(carrier)),
};

export type TargetName = keyof typeof targets;

// ---- sessions to begin with ----

function frame(firstByte: number, payload: Buffer | string, mask = 0x37fa213d): Buffer {
  const bytes = Buffer.from(payload);
  const key = words(mask);
  const head = bytes.length < 126 ? [bytes.length | 0x80] : [0xfe, bytes.length >> 8, bytes.length & 0xff];
  return Buffer.concat([
    Buffer.of(firstByte, ...head),
    key,
    Buffer.from(bytes.map((byte, at) => byte ^ (key[at & 3] ?? 0))),
  ]);
}

function control(type: number, content: Buffer, flags = 0): Buffer {
  return Buffer.concat([Buffer.of(0x80, 3, 0, type), words((flags << 24) | content.length), content]);
}

function data(stream: number, text: string, flags = 0): Buffer {
  return Buffer.concat([words(stream, (flags << 24) | text.length), Buffer.from(text)]);
}

function session(streams: Record<string, string>[], rest: Buffer[]): Buffer {
  const writer = new HeaderWriter();
  const opened = streams.map((headers, index) => {
    const block = writer.write(new Map(Object.entries(headers)));
    return control(1, Buffer.concat([words(2 * index + 1, 0), Buffer.alloc(2), block]));
  });
  return Buffer.concat([...opened, ...rest]);
}

/** The same with zlib's own compression, of the first stream alone. */
function compressed(headers: Record<string, string>): Buffer {
  const pairs = Object.entries(headers).flat();
  const block = Buffer.concat([
    words(pairs.length / 2),
    ...pairs.flatMap((word) => [words(word.length), Buffer.from(word)]),
  ]);
  const content = deflateSync(block, { dictionary, finishFlush: constants.Z_SYNC_FLUSH });
  return control(1, Buffer.concat([words(1, 0), Buffer.alloc(2), content]));
}

const execStreams = ["error", "stdin", "stdout", "stderr", "resize"].map((streamtype) => ({ streamtype }));
const execSession = session(execStreams, [
  control(4, words(1, 7, 65536)),
  data(9, '{"Width":80,"Height":24}\n'),
  data(3, "hello "),
  control(6, words(1)),
  data(3, "world", 1),
  control(9, words(0, 1000)),
  control(3, words(5, 5)),
  control(7, words(0, 0)),
]);
const pair = (requestid: string, port: string) => [
  { streamtype: "error", port, requestid },
  { streamtype: "data", port, requestid },
];
const forwardSession = session(
  [...pair("0", "80"), ...pair("1", "8080"), { streamtype: "error", port: "1" }, { streamtype: "data", port: "1" }],
  [data(3, "GET / HTTP/1.0\r\n\r\n", 1), data(7, "x".repeat(300)), control(3, words(7, 5)), data(1, "", 1)],
);

const channels = Buffer.concat([
  frame(0x82, '\x04{"Width":80,"Height":24}'),
  frame(0x82, "\0hello"),
  frame(0x02, "\0in "),
  frame(0x89, "ping"),
  frame(0x00, "two "),
  frame(0x80, "parts"),
  frame(0x82, "\0".repeat(300)),
  frame(0x82, Buffer.of(255, 0)),
  frame(0x88, Buffer.from([0x03, 0xe8])),
]);
const base64 = Buffer.concat([
  frame(0x81, `0${Buffer.from("hello").toString("base64")}`),
  frame(0x01, "0aGVs"),
  frame(0x80, "bG8"),
  frame(0x81, `4${Buffer.from('{"Width":80,"Height":24}').toString("base64")}`),
]);

export function seedsOf(name: TargetName): Buffer[] {
  switch (name) {
    case "websocket-v5":
      return [channels];
    case "websocket-base64":
      return [base64, channels];
    case "spdy-exec":
      return [execSession, compressed({ streamtype: "error" })];
    case "spdy-forward":
      return [forwardSession, compressed({ streamtype: "data", port: "80", requestid: "0" })];
    case "tunnel-forward":
      return [Buffer.concat([frame(0x82, forwardSession.subarray(0, 100)), frame(0x82, forwardSession.subarray(100))])];
  }
}
