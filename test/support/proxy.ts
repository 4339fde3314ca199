/** A proxy as companies have them: it tunnels for https, and asks for http on behalf of its clients. */
import { readFileSync } from "node:fs";
import { request as ask, createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { KeyPair } from "./certificates.js";

export interface TestProxy {
  /** "127.0.0.1:PORT" */
  host: string;
  /** "CONNECT r.example:443", "GET http://r.example:5000/v2/...": what has been asked for, in its order */
  seen: string[];
  stop(): Promise<void>;
}

export interface ProxyOptions {
  /** which address a "host:port" stands for; every other one is unknown to it */
  routes: Record<string, string>;
  /** "user:password" that it wants */
  credentials?: string;
  tls?: KeyPair;
}

export async function startProxy(options: ProxyOptions): Promise<TestProxy> {
  const seen: string[] = [];
  const sockets = new Set<Duplex>();
  const wanted = options.credentials && `Basic ${Buffer.from(options.credentials).toString("base64")}`;
  const isAllowed = (shown: string | undefined): boolean => wanted === undefined || shown === wanted;
  const portOf = (host: string): number => Number(options.routes[host]?.split(":")[1] ?? 0);

  const forward: RequestListener = (request, response) => {
    seen.push(`${request.method} ${request.url}`);
    const url = new URL(request.url ?? "");
    const port = portOf(`${url.hostname}:${url.port || 80}`);
    if (!isAllowed(request.headers["proxy-authorization"])) response.writeHead(407).end();
    else if (port === 0) response.writeHead(502).end();
    else {
      const { "proxy-authorization": _, ...headers } = request.headers;
      const onward = ask({ host: "127.0.0.1", port, path: `${url.pathname}${url.search}`, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      onward.end();
    }
  };
  const tls = options.tls && { cert: readFileSync(options.tls.certificate), key: readFileSync(options.tls.key) };
  const server = tls === undefined ? createServer(forward) : createTlsServer(tls, forward);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("connect", (request, client: Duplex) => {
    seen.push(`CONNECT ${request.url}`);
    const port = portOf(request.url ?? "");
    client.on("error", () => undefined);
    if (!isAllowed(request.headers["proxy-authorization"])) {
      client.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
      return;
    }
    if (port === 0) {
      client.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
      return;
    }
    const onward = connect(port, "127.0.0.1", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      onward.pipe(client).pipe(onward);
    });
    onward.on("error", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    host: `127.0.0.1:${address.port}`,
    seen,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
