/** From an HTTP request to a client's streams. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { SocketCarrier } from "./carrier.js";
import type { ClientStreams } from "./client-streams.js";
import { Channel, channelProtocols, WebSocketChannels } from "./websocket/channels.js";
import { acceptWebSocket } from "./websocket/handshake.js";

export interface Refusal {
  status: number;
  refusal: string;
  /** whole lines */
  headers?: string[];
}

export interface WantedStreams {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
}

/** Calls one of the two, once. */
interface Upgraded {
  refuse: (refusal: Refusal) => void;
  serve: (client: ClientStreams) => void;
}

export function upgradeToProgram(
  request: IncomingMessage,
  duplex: Duplex,
  head: Buffer,
  { streams }: { streams: WantedStreams },
  { refuse, serve }: Upgraded,
): void {
  if (request.headers.upgrade?.toLowerCase() !== "websocket") {
    refuse({ status: 400, refusal: "an upgrade to WebSocket is needed" });
    return;
  }
  const handshake = acceptWebSocket(request, channelProtocols);
  if ("refusal" in handshake) {
    refuse({ ...handshake, headers: handshake.status === 426 ? ["Sec-WebSocket-Version: 13"] : [] });
    return;
  }
  // the server is no TLS server: its connections are sockets
  const socket = duplex as Socket;
  socket.write(handshake.response);
  const client = new WebSocketChannels(new SocketCarrier(socket, head), handshake.protocol);
  client.greet(streams.stdout ? Channel.stdout : streams.stderr ? Channel.stderr : Channel.error);
  serve(client);
}
