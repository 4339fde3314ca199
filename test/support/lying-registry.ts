/** A registry under the test's control: it answers what it is told, truth or not. */
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { KeyPair } from "./certificates.js";
import type { BuiltBlob, BuiltImage } from "./image-builder.js";

export interface SeenRequest {
  path: string;
  authorization: string | undefined;
  query: URLSearchParams;
  headers: IncomingMessage["headers"];
}

export interface LyingRegistry {
  host: string;
  url: string;
  seen: SeenRequest[];
  stop(): Promise<void>;
}

/** True: the request has been answered. */
export type Answer = (request: IncomingMessage, response: ServerResponse, path: string) => boolean | undefined;

/** Serves an image under any repository and tag, unless `answer` comes first. */
export async function startLyingRegistry(
  image: BuiltImage,
  answer: Answer = () => false,
  tls?: KeyPair,
): Promise<LyingRegistry> {
  const seen: SeenRequest[] = [];
  const blobs = new Map<string, BuiltBlob>(
    [image.manifest, image.configuration, ...image.layers].map((blob) => [blob.digest, blob]),
  );
  const listener: RequestListener = (request, response) => {
    const url = new URL(request.url ?? "/", "http://registry");
    const { headers } = request;
    seen.push({ path: url.pathname, authorization: headers.authorization, query: url.searchParams, headers });
    if (answer(request, response, url.pathname)) return;
    const last = decodeURIComponent(url.pathname.split("/").at(-1) ?? "");
    const blob = url.pathname.includes("/manifests/") ? (blobs.get(last) ?? image.manifest) : blobs.get(last);
    if (blob === undefined) {
      response.writeHead(404).end("{}");
      return;
    }
    response.writeHead(200, { "content-type": blob.mediaType, "content-length": blob.bytes.length }).end(blob.bytes);
  };
  const server =
    tls === undefined
      ? createServer(listener)
      : createTlsServer({ cert: readFileSync(tls.certificate), key: readFileSync(tls.key) }, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const host = `127.0.0.1:${address.port}`;
  return {
    host,
    url: `${tls === undefined ? "http" : "https"}://${host}`,
    seen,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
