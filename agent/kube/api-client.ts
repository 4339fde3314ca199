/** Requests to the API server, and watches. What it sends is bounded in size and in time. */
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Access, Credentials } from "./credentials.js";
import type { Said } from "./said.js";

export class ApiError extends Error {
  constructor(
    /** HTTP's */
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export interface ApiRequest {
  method: "GET" | "POST" | "PATCH";
  /** from /api on, without the query */
  path: string;
  query?: Record<string, string>;
  body?: unknown;
  /** absent: application/json */
  contentType?: string;
  signal: AbortSignal;
}

/** etcd takes objects up to 1.5 MiB; of a list there may be many. */
const maxAnswerBytes = 64 * 1024 * 1024;
const maxLineBytes = 8 * 1024 * 1024;
const answerTimeoutMs = 30_000;

export class ApiClient {
  constructor(
    private readonly credentials: Credentials,
    private readonly said: Said,
  ) {}

  /** @throws ApiError with the server's own sentence, or the error of the connection */
  async call<T>(question: ApiRequest): Promise<T> {
    const response = await this.#send(question, answerTimeoutMs);
    return JSON.parse(await readAll(response)) as T;
  }

  /**
   * The lines of a watch, until the server ends it. A line that is too long is left out and said.
   * @param quietMs so long may nothing come
   * @param onAccepted the server has not refused it
   */
  async *lines(question: ApiRequest, quietMs: number, onAccepted: () => void): AsyncGenerator<string> {
    const response = await this.#send(question, quietMs);
    onAccepted();
    yield* splitLines(response, maxLineBytes, () =>
      this.said.trouble(`huge ${question.path}`, `${question.path}: an object of more than 8 MiB is left out`),
    );
  }

  async #send(question: ApiRequest, timeoutMs: number): Promise<IncomingMessage> {
    try {
      const response = await exchange(await this.credentials.current(), question, timeoutMs);
      if (response.statusCode === 401) this.credentials.doubt();
      if ((response.statusCode ?? 0) >= 300) throw await refusal(response, question);
      this.said.over("api", "the API server answers again");
      return response;
    } catch (error) {
      if (!(error instanceof ApiError)) this.credentials.doubt();
      throw error;
    }
  }
}

/** Resolves with the answer's head. A connection on which nothing comes for `timeoutMs` is given up. */
function exchange({ server, options }: Access, question: ApiRequest, timeoutMs: number): Promise<IncomingMessage> {
  const url = new URL(server);
  url.pathname = server.pathname.replace(/\/$/, "") + question.path;
  url.search = new URLSearchParams(question.query).toString();
  const body = question.body === undefined ? undefined : JSON.stringify(question.body);
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, {
      ...options,
      method: question.method,
      signal: question.signal,
      timeout: timeoutMs,
      headers: {
        ...options.headers,
        accept: "application/json",
        "user-agent": "berth-kube",
        ...(body !== undefined && {
          "content-type": question.contentType ?? "application/json",
          "content-length": Buffer.byteLength(body),
        }),
      },
    });
    request.once("response", resolve);
    request.once("error", reject);
    request.once("timeout", () => request.destroy(new Error(`${server.host} sent nothing for ${timeoutMs / 1000} s`)));
    request.end(body);
  });
}

async function refusal(response: IncomingMessage, { method, path }: ApiRequest): Promise<ApiError> {
  const text = await readAll(response).catch(() => "");
  const said = reasonIn(text) ?? response.statusMessage ?? "";
  const status = response.statusCode ?? 0;
  return new ApiError(status, `${method} ${path}: ${status} ${said.slice(0, 500)}`);
}

function reasonIn(text: string): string | undefined {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === "string" ? message : undefined;
  } catch {
    return undefined;
  }
}

async function readAll(response: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > maxAnswerBytes) throw new Error(`the API server's answer has more than ${maxAnswerBytes} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

/** Lines of a stream; of one that is longer nothing is kept, and `onHuge` is told. */
export async function* splitLines(
  pieces: AsyncIterable<Buffer>,
  maxBytes: number,
  onHuge: () => void,
): AsyncGenerator<string> {
  let begun: Buffer[] = [];
  let size = 0;
  for await (const piece of pieces) {
    let from = 0;
    for (let end = piece.indexOf(10); end >= 0; end = piece.indexOf(10, from)) {
      const rest = piece.subarray(from, end);
      if (size + rest.length > maxBytes) onHuge();
      else yield Buffer.concat([...begun, rest]).toString("utf8");
      [begun, size, from] = [[], 0, end + 1];
    }
    size += piece.length - from;
    if (size > maxBytes) begun = [];
    else begun.push(piece.subarray(from));
  }
}
