/** One connection to a pod's port: a SPDY session of two streams, one for data and one for an error. */
import type { Socket } from "node:net";
import { headroom } from "../../streaming/carrier.js";
import { FrameParser, FrameType, flagFin, putControlHeader, putDataHeader } from "../../streaming/spdy/frames.js";
import { HeaderWriter } from "../../streaming/spdy/headers.js";
import { openUpgrade } from "./upgrade.js";

const errorStream = 1;
const dataStream = 3;

/** Until both sides have ended; answers what the server says of an error, "" for none. Takes the local socket over. */
export async function forwardConnection(url: string, port: number, local: Socket): Promise<string> {
  const { socket, head } = await openUpgrade(url, "POST", {
    Upgrade: "SPDY/3.1",
    "Content-Length": "0",
    "X-Stream-Protocol-Version": "portforward.k8s.io",
  });
  let problem = "";
  const ended = { data: false, error: false };
  const onEnded = (): void => {
    if (ended.data && ended.error && local.writableEnded && local.readableEnded) socket.end();
  };
  const parser = new FrameParser({
    control: (type, _flags, content) => {
      if (type === FrameType.rstStream || type === FrameType.goAway) socket.destroy();
      else if (type === FrameType.ping && (content[3] ?? 1) % 2 === 0)
        socket.write(control(FrameType.ping, 0, content));
    },
    data: (stream, bytes) => {
      if (stream === errorStream) problem += bytes.toString();
      else if (stream === dataStream && !local.write(bytes)) socket.pause();
    },
    fin: (stream) => {
      ended[stream === dataStream ? "data" : "error"] = true;
      if (problem !== "") local.destroy();
      else if (stream === dataStream) local.end();
      onEnded();
    },
  });
  socket.on("data", (bytes: Buffer) => {
    try {
      parser.push(bytes);
    } catch {
      socket.destroy();
    }
  });
  socket.on("drain", () => local.resume());
  socket.on("error", () => socket.destroy());
  local.on("drain", () => socket.resume());
  local.on("data", (bytes: Buffer) => {
    if (!socket.write(data(bytes, 0))) local.pause();
  });
  local.on("end", () => {
    socket.write(data(Buffer.alloc(0), flagFin));
    onEnded();
  });
  local.on("close", () => socket.end());
  openStreams(socket, port);
  local.resume();
  if (head.length > 0) socket.unshift(head);
  await new Promise<void>((resolve) => socket.once("close", resolve));
  local.destroy();
  return problem;
}

function openStreams(socket: Socket, port: number): void {
  const writer = new HeaderWriter();
  const open = (id: number, flags: number, streamtype: string) => {
    const block = writer.write(
      new Map([
        ["streamtype", streamtype],
        ["port", String(port)],
        ["requestid", "0"],
      ]),
    );
    const content = Buffer.alloc(10);
    content.writeUInt32BE(id);
    socket.write(control(FrameType.synStream, flags, Buffer.concat([content, block])));
  };
  open(errorStream, flagFin, "error");
  open(dataStream, 0, "data");
}

function control(type: number, flags: number, content: Buffer): Buffer {
  const buffer = Buffer.concat([Buffer.alloc(headroom), content]);
  return buffer.subarray(putControlHeader(buffer, headroom, buffer.length, type, flags));
}

function data(bytes: Buffer, flags: number): Buffer {
  const buffer = Buffer.concat([Buffer.alloc(headroom), bytes]);
  return buffer.subarray(putDataHeader(buffer, headroom, buffer.length, dataStream, flags));
}
