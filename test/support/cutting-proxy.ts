/** A network that is bad: what a server sends passes, and its connections are cut after so many bytes. */
import { connect, createServer, type Socket } from "node:net";

export interface CuttingProxy {
  /** "127.0.0.1:PORT" */
  host: string;
  /** connections that have been cut */
  cuts: number;
  stop(): Promise<void>;
}

/** @param server "127.0.0.1:PORT" */
export async function startCuttingProxy(server: string, bytesOfConnection: number): Promise<CuttingProxy> {
  const [host = "", port = "0"] = server.split(":");
  const sockets = new Set<Socket>();
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  };
  const listener = createServer((client) => {
    const upstream = connect(Number(port), host);
    for (const socket of [client, upstream]) track(socket);
    let left = bytesOfConnection;
    client.pipe(upstream);
    upstream.on("data", (piece: Buffer) => {
      if (left <= 0) return;
      client.write(piece.subarray(0, left));
      left -= piece.length;
      if (left > 0) return;
      proxy.cuts += 1;
      client.end();
      upstream.destroy();
    });
    upstream.once("close", () => client.end());
    client.once("close", () => upstream.destroy());
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const proxy: CuttingProxy = {
    host: `127.0.0.1:${address.port}`,
    cuts: 0,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
  return proxy;
}
