/** WebSocket's opening handshake (RFC 6455, section 4.2). */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";

const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export type Handshake =
  /** the answer's head; what was agreed on, "" when the client has asked for none */
  { response: string; protocol: string } | { refusal: string; status: number };

/** @param protocols those that are spoken; the first of the client's that is among them is taken */
export function acceptWebSocket(request: IncomingMessage, protocols: readonly string[]): Handshake {
  const { headers } = request;
  const key = headers["sec-websocket-key"] ?? "";
  if (request.method !== "GET") return { status: 405, refusal: "a WebSocket is opened with GET" };
  if (headers["sec-websocket-version"] !== "13") return { status: 426, refusal: "the WebSocket's version must be 13" };
  if (!/^[A-Za-z0-9+/]{22}==$/.test(key)) return { status: 400, refusal: "Sec-WebSocket-Key is malformed" };
  const offered = (headers["sec-websocket-protocol"] ?? "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const protocol = offered.length === 0 ? "" : offered.find((name) => protocols.includes(name));
  if (protocol === undefined || !protocols.includes(protocol)) {
    return {
      status: 400,
      refusal: `none of the subprotocols is spoken here; these are: ${protocols.filter(Boolean).join(", ")}`,
    };
  }
  const accept = createHash("sha1")
    .update(key + magic)
    .digest("base64");
  const lines = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${accept}`,
    ...(protocol === "" ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]),
  ];
  return { protocol, response: `${lines.join("\r\n")}\r\n\r\n` };
}
