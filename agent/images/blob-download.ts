/** A blob that is read over as many connections as it takes: one that breaks is gone on with where it broke. */
import { InternalError } from "../../sandbox/errors.js";
import type { HttpResponse } from "./http.js";
import { type Patience, Retries, TransientError } from "./transient.js";

/** After so many further bytes, what failed before is forgiven. */
const forgivenBytes = 64 * 1024;

export interface BlobRequest {
  /** for errors */
  what: string;
  /** bytes, as the descriptor promises */
  size: number;
  patience: Patience;
  signal: AbortSignal;
  /** Asks for the blob from this byte on; answers with 200, 206 or 416. */
  open(from: number): Promise<HttpResponse>;
}

/**
 * The bytes of a blob, from the first to the last, each one once. Nobody promises that they all are of the same blob, or that
 * there are not more than `size`: the digest has to be checked.
 */
export async function* downloadBlob(request: BlobRequest): AsyncGenerator<Uint8Array> {
  const { size, what, signal } = request;
  const retries = new Retries(request.patience, signal);
  let offset = 0;
  let forgivenAt = forgivenBytes;
  let takesRanges = true;
  for (;;) {
    try {
      const response = await request.open(takesRanges ? offset : 0);
      try {
        const part = partOf(response, takesRanges ? offset : 0, size);
        if (part === undefined) {
          takesRanges = false;
          throw new TransientError(`${response.from} answered with another part of ${what} than it was asked for`);
        }
        checkLength(response, part, what);
        let skip = offset - part.begin;
        for await (const chunk of response.body) {
          const news = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - news.length;
          if (news.length === 0) continue;
          offset += news.length;
          if (offset >= forgivenAt) {
            forgivenAt = offset + forgivenBytes;
            retries.reset();
          }
          yield news;
        }
        if (offset >= size) return;
        // a server may send less than the rest, if it says so
        if (isDelimited(response) && !(part.end < size && offset === part.end)) return;
        throw new TransientError(`${response.from} ended after ${offset} of ${size} bytes of ${what}`);
      } finally {
        response.body.destroy();
      }
    } catch (error) {
      // only the end of the answer was lost
      if (error instanceof TransientError && offset >= size) return;
      await retries.after(error);
    }
  }
}

/** Of a blob: from this byte on, before that one. */
interface Part {
  begin: number;
  end: number;
}

/** What the answer has; undefined: it begins at another byte than was asked for. */
function partOf(response: HttpResponse, asked: number, size: number): Part | undefined {
  if (response.status === 200) return { begin: 0, end: size };
  const range = /^bytes ([0-9]{1,15})-([0-9]{1,15})/i.exec([response.headers["content-range"] ?? ""].flat()[0] ?? "");
  if (response.status !== 206 || Number(range?.[1]) !== asked) return undefined;
  const end = Number(range?.[2]) + 1;
  return { begin: asked, end: end > asked && end < size ? end : size };
}

/** Told in advance, it need not be read first. */
function checkLength(response: HttpResponse, { begin, end }: Part, what: string): void {
  const length = response.headers["content-length"];
  if (length === undefined || Number(length) === end - begin) return;
  throw new InternalError(`${response.from} sends ${length} bytes of ${what}, its descriptor says ${end - begin}`);
}

/** Otherwise its end is only that of the connection, which may have been lost. */
function isDelimited(response: HttpResponse): boolean {
  return response.headers["content-length"] !== undefined || response.headers["transfer-encoding"] !== undefined;
}
