/** From an HTTP request to a client's streams. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Carrier } from "./carrier.js";
import type { ClientStreams, WantedStreams } from "./client-streams.js";
import { DescriptorCarrier, descriptorOf } from "./descriptor-carrier.js";
import { SocketCarrier } from "./socket-carrier.js";
import { remoteCommandProtocols, SpdyChannels } from "./spdy/channels.js";
import { Channel, channelProtocols, WebSocketChannels } from "./websocket/channels.js";
import { acceptWebSocket } from "./websocket/handshake.js";

export interface Refusal {
  status: number;
  refusal: string;
  /** whole lines */
  headers?: string[];
}

/** A client that was told that its protocol is spoken. */
export interface Agreed {
  kind: "websocket" | "spdy";
  /** the subprotocol; empty: the client has asked for none */
  protocol: string;
  carrier: Carrier;
}

/** What is spoken at a URL, over each of the two. */
export interface Protocols {
  websocket: readonly string[];
  spdy: readonly string[];
}

export const programProtocols: Protocols = { websocket: channelProtocols, spdy: remoteCommandProtocols };

/** Answers the upgrade request; a refusal is left to the caller. */
export function upgrade(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  protocols: Protocols,
): Agreed | Refusal {
  switch (request.headers.upgrade?.toLowerCase()) {
    case "websocket": {
      const handshake = acceptWebSocket(request, protocols.websocket);
      if ("refusal" in handshake) {
        return { ...handshake, headers: handshake.status === 426 ? ["Sec-WebSocket-Version: 13"] : [] };
      }
      return { kind: "websocket", protocol: handshake.protocol, carrier: accept(socket, head, handshake.response) };
    }
    case "spdy/3.1": {
      const offered = (request.headers["x-stream-protocol-version"]?.toString() ?? "")
        .split(",")
        .map((name) => name.trim())
        .filter((name) => name !== "");
      const oldest = protocols.spdy.at(-1) ?? "";
      const protocol = offered.length === 0 ? oldest : offered.find((name) => protocols.spdy.includes(name));
      if (protocol === undefined) {
        return {
          status: 403,
          refusal: `none of the stream protocols is spoken here; these are: ${protocols.spdy.join(", ")}`,
          headers: protocols.spdy.map((name) => `X-Accepted-Stream-Protocol-Versions: ${name}`),
        };
      }
      const lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"];
      if (offered.length > 0) lines.push(`X-Stream-Protocol-Version: ${protocol}`);
      return { kind: "spdy", protocol, carrier: accept(socket, head, `${lines.join("\r\n")}\r\n\r\n`) };
    }
    default:
      return { status: 400, refusal: "an upgrade to WebSocket or SPDY/3.1 is needed" };
  }
}

function accept(socket: Socket, head: Buffer, response: string): Carrier {
  const carrier = descriptorOf(socket) === null ? new SocketCarrier(socket, head) : new DescriptorCarrier(socket, head);
  const bytes = Buffer.from(response);
  carrier.write(bytes, 0, bytes.length);
  return carrier;
}

/** Calls `serve` once the client has opened all streams that it was to open. */
export function openProgram(
  { kind, protocol, carrier }: Agreed,
  wanted: WantedStreams,
  serve: (client: ClientStreams) => void,
): void {
  if (kind === "spdy") {
    const client: SpdyChannels = new SpdyChannels(carrier, protocol, wanted, () => serve(client));
    return;
  }
  const greeting = wanted.stdout ? Channel.stdout : wanted.stderr ? Channel.stderr : Channel.error;
  serve(new WebSocketChannels(carrier, protocol, greeting));
}
