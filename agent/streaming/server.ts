/**
 * The HTTP server that the CRI's streaming calls point to. Exec, Attach and PortForward answer a URL with a token; the
 * kubelet opens it and passes the API server's connection through, which then speaks WebSocket or SPDY.
 */
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerOptions } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { checked, followCertificates } from "../../metrics/renewed-certificates.js";
import { FailedPreconditionError, messageOf } from "../../sandbox/errors.js";
import { readSmallFileSync } from "../../sandbox/small-files.js";
import type { Config } from "../config.js";
import type { ClientStreams, WantedStreams } from "./client-streams.js";
import { portForwardProtocols } from "./port-forward.js";
import { Tokens } from "./tokens.js";
import { type Agreed, openProgram, programProtocols, type Refusal, upgrade } from "./upgrade.js";

/** What is behind a URL, and how it is served once its client is there. */
export type Service =
  | {
      method: "exec" | "attach";
      streams: WantedStreams;
      serve: (client: ClientStreams) => Promise<void>;
    }
  | { method: "portforward"; forward: (agreed: Agreed) => void };

/** A request's head comes at once, or not at all. */
const headMs = 10_000;
/** How long a client that was refused may take to close. */
const closeMs = 5_000;

export class StreamingServer {
  readonly #tokens = new Tokens<Service>();
  readonly #server: Server;
  #base: string | null = null;

  /**
   * @param address null: there is none, and no streams
   * @param tls null: plain HTTP. FailedPreconditionError: certificate or key cannot be used
   * @param onRefused is told of new ones that cannot be used; those before stay
   */
  constructor(
    private readonly address: Config["streams"],
    private readonly tls: Config["streamsTls"],
    onRefused: (error: unknown) => void = () => undefined,
  ) {
    const limits = { headersTimeout: headMs, requestTimeout: headMs, connectionsCheckingInterval: headMs };
    const refuseAll: RequestListener = (_request, response) => {
      response.writeHead(400, { "content-type": "text/plain", connection: "close" });
      response.end("an upgrade to WebSocket or SPDY/3.1 is needed\n");
    };
    this.#server = tls === null ? createServer(limits, refuseAll) : openTlsServer(tls, limits, refuseAll, onRefused);
    this.#server.on("upgrade", (request, socket, head) => this.#onUpgrade(request, socket, head));
  }

  /** FailedPreconditionError: the address cannot be had. */
  async listen(): Promise<void> {
    if (this.address === null) return;
    const { host, port } = this.address;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) =>
        reject(
          new FailedPreconditionError(`streams cannot be served (--streams ${host}:${port}): ${messageOf(error)}`, {
            cause: error,
          }),
        ),
      );
      this.#server.listen(port, host, resolve);
    });
    const scheme = this.tls === null ? "http" : "https";
    this.#base = `${scheme}://${hostOf(this.#server.address() as AddressInfo)}`;
  }

  /** The URL under which the service is served, once and soon. */
  issue(service: Service): string {
    if (this.#base === null) throw new FailedPreconditionError("streams are switched off on this node (--streams off)");
    return `${this.#base}/${service.method}/${this.#tokens.issue(service)}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // nobody else listens yet, and an error without a listener would end the agent
    socket.on("error", () => socket.destroy());
    try {
      this.#open(request, socket, head);
    } catch {
      // whatever a client sends, and however many there are: it must not be the end of more than its own connection
      socket.destroy();
    }
  }

  #open(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const target = request.url ?? "/";
    // "//" is sent as a path, and is none of a URL
    const path = URL.canParse(target, "http://streams") ? new URL(target, "http://streams").pathname : "/";
    const [, method, token, ...rest] = path.split("/");
    const service = rest.length === 0 && token ? this.#tokens.take(token) : undefined;
    if (service === undefined || service.method !== method) {
      refuse(socket, { status: 404, refusal: "there is no such stream; its token was used, or has expired" });
      return;
    }
    // that of TLS is one, too
    const protocols = service.method === "portforward" ? portForwardProtocols : programProtocols;
    const agreed = upgrade(request, socket as Socket, head, protocols);
    if ("refusal" in agreed) {
      refuse(socket, agreed);
      return;
    }
    if (service.method === "portforward") service.forward(agreed);
    else
      openProgram(agreed, service.streams, (client) => {
        // its own failures it tells its client; any other ends nothing but this connection
        service.serve(client).catch(() => agreed.carrier.destroy());
      });
  }
}

function openTlsServer(
  { certificate, key }: NonNullable<Config["streamsTls"]>,
  limits: ServerOptions,
  listener: RequestListener,
  onRefused: (error: unknown) => void,
): Server {
  const read = () => ({ cert: readSmallFileSync(certificate), key: readSmallFileSync(key) });
  const usual = { handshakeTimeout: headMs, minVersion: "TLSv1.2" } as const;
  try {
    const server = createTlsServer({ ...limits, ...checked(read()), ...usual }, listener);
    const { minVersion } = usual;
    followCertificates(server, {
      files: () => [certificate, key],
      options: () => ({ ...read(), minVersion }),
      onRefused,
    });
    return server;
  } catch (error) {
    throw new FailedPreconditionError(
      `streams cannot be served over TLS (--streams-cert ${certificate}, --streams-key ${key}): ${messageOf(error)}`,
      { cause: error },
    );
  }
}

function hostOf({ address, port }: AddressInfo): string {
  // whoever asks for the URL is on this node
  if (address === "0.0.0.0" || address === "::") return `127.0.0.1:${port}`;
  return `${address.includes(":") ? `[${address}]` : address}:${port}`;
}

function refuse(socket: Duplex, { status, refusal, headers = [] }: Refusal): void {
  const body = `${refusal}\n`;
  const lines = [
    `HTTP/1.1 ${status} Refused`,
    "Content-Type: text/plain; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
    ...headers,
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
  // what it sends all the same is nobody's; unread, it would hide the client's end for ever
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), closeMs);
  socket.once("close", () => clearTimeout(timer));
}
