/** Clients of the CRI socket that ask, and read nothing of what they are answered: HTTP/2 by hand, for no library does that. */
import { createConnection, type Socket } from "node:net";

/** Frames of HTTP/2: RFC 9113, section 4.1. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const types = { data: 0, headers: 1, settings: 4, windowUpdate: 8 };
const endStream = 1;
const endHeaders = 4;
const largestWindow = 2 ** 31 - 1;

/** Literal header fields without indexing: RFC 7541, section 6.2.2. */
function headerBlock(fields: Record<string, string>): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat(Object.entries(fields).flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function opening(isWindowOpen: boolean): Buffer {
  const settings = Buffer.alloc(isWindowOpen ? 6 : 0);
  if (isWindowOpen) {
    settings.writeUInt16BE(4, 0);
    settings.writeUInt32BE(largestWindow, 2);
  }
  const more = Buffer.alloc(4);
  more.writeUInt32BE(largestWindow - 65_535);
  return Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(types.settings, 0, 0, settings),
    ...(isWindowOpen ? [frame(types.windowUpdate, 0, 0, more)] : []),
  ]);
}

/**
 * A connection that makes a call `count` times, at once.
 * @param path of the call, "/SERVICE/METHOD"; its request is empty
 * @param isWindowOpen HTTP/2 may send it whatever it likes, and the kernel keeps it; otherwise HTTP/2 keeps it
 */
export function callAndNotRead(socket: string, path: string, count: number, isWindowOpen: boolean): Promise<Socket> {
  const fields = { ":method": "POST", ":scheme": "http", ":path": path, ":authority": "a" };
  const block = headerBlock({ ...fields, "content-type": "application/grpc", te: "trailers" });
  const calls = Array.from({ length: count }, (_, index) => [
    frame(types.headers, endHeaders, 2 * index + 1, block),
    frame(types.data, endStream, 2 * index + 1, Buffer.alloc(5)),
  ]);
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket.replace("unix://", ""), () => {
      connection.pause();
      connection.write(Buffer.concat([opening(isWindowOpen), ...calls.flat()]), () => resolve(connection));
    });
    connection.once("error", reject);
    connection.on("error", () => undefined);
  });
}
