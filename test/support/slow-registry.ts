/** A registry that sends an image's layers no faster than a test lets it. */
import type { ServerResponse } from "node:http";
import type { BuiltImage } from "./image-builder.js";
import { type Answer, type LyingRegistry, startLyingRegistry } from "./lying-registry.js";

export interface SlowRegistry extends LyingRegistry {
  /** the digests of layers that are waited for now, in the order in which they were asked for */
  asked(): string[];
  /** Sends so many further bytes of a layer; more than are left are all of them. */
  send(digest: string, bytes: number): void;
  /** Sends all that is left, of this layer or of all, now and to whoever asks later. */
  sendAll(digest?: string): void;
  /** whether the client has hung up on a layer that was not sent whole */
  hungUp(digest: string): boolean;
}

/** @param answer comes first */
export async function startSlowRegistry(image: BuiltImage, answer: Answer = () => false): Promise<SlowRegistry> {
  const streams = new Map<string, { bytes: Buffer; sent: number; response: ServerResponse }>();
  const gone = new Set<string>();
  const open = new Set<string>();
  const send = (digest: string, bytes: number): void => {
    const stream = streams.get(digest);
    if (stream === undefined) throw new Error(`nobody asks for ${digest}`);
    const piece = stream.bytes.subarray(stream.sent, stream.sent + bytes);
    stream.sent += piece.length;
    if (stream.sent < stream.bytes.length) stream.response.write(piece);
    else {
      stream.response.end(piece);
      streams.delete(digest);
    }
  };
  const registry = await startLyingRegistry(image, (request, response, path) => {
    if (answer(request, response, path)) return true;
    const layer = image.layers.find(({ digest }) => path.endsWith(digest));
    if (layer === undefined || open.has(layer.digest)) return false;
    const { digest, bytes } = layer;
    streams.set(digest, { bytes, sent: 0, response });
    response.once("close", () => {
      if (streams.delete(digest)) gone.add(digest);
    });
    response.writeHead(200, { "content-length": bytes.length });
    response.flushHeaders();
    return true;
  });
  return {
    ...registry,
    asked: () => [...streams.keys()],
    send,
    sendAll(digest) {
      for (const { digest: each } of image.layers) {
        if (digest !== undefined && each !== digest) continue;
        open.add(each);
        const stream = streams.get(each);
        if (stream !== undefined) send(each, stream.bytes.length);
      }
    },
    hungUp: (digest) => gone.has(digest),
  };
}
