/** A TCP server below HTTP: what it sends need not be any. */
import { createServer, type Socket } from "node:net";

export interface BareServer {
  host: string;
  url: string;
  stop(): Promise<void>;
}

/** @param answer called with the first that a client says; TLS is not spoken */
export async function startBareServer(answer: (socket: Socket, request: string) => void): Promise<BareServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
    socket.once("data", (chunk) => {
      // a TLS greeting: not spoken here
      if (chunk[0] === 0x16) socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
      else answer(socket, chunk.toString("latin1"));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const host = `127.0.0.1:${address.port}`;
  return {
    host,
    url: `http://${host}`,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
