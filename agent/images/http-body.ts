/** The bodies of answers: read no slower than a server must be, and no further than they may be long. */
import { InternalError } from "../../sandbox/errors.js";
import type { HttpResponse } from "./http.js";
import { TransientError } from "./transient.js";

/** Less than this within the time of a stall is a stall, too: a byte now and then would keep us for ever. */
const leastBytes = 16 * 1024;

/**
 * Only the time counts in which the server is waited for, not that in which nobody reads.
 * @param explain makes an error of ours of whatever the body throws
 */
export async function* followBody(
  body: AsyncIterable<Uint8Array>,
  { host, stallMs, explain }: { host: string; stallMs: number; explain: (error: unknown) => Error },
): AsyncGenerator<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]();
  let waitedMs = 0;
  let bytes = 0;
  try {
    for (;;) {
      const begun = performance.now();
      const { done, value } = await chunks.next();
      if (done) return;
      waitedMs += performance.now() - begun;
      bytes += value.length;
      if (waitedMs >= stallMs) {
        if (bytes < leastBytes) {
          throw new TransientError(`${host} has sent ${bytes} bytes in ${Math.round(waitedMs / 1000)} s`);
        }
        waitedMs = 0;
        bytes = 0;
      }
      yield value;
    }
  } catch (error) {
    throw explain(error);
  } finally {
    await chunks.return?.();
  }
}

/** Reads a body that has to be small. @throws InternalError when it is not */
export async function readBody(response: HttpResponse, limitBytes: number, what: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > limitBytes) throw new InternalError(`${what} is longer than ${limitBytes} bytes`);
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks);
}
