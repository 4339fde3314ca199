/** Requests to the API server, and watches. What it sends is bounded in size and in time. */
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { retryAfterMs } from "../images/transient.js";
import type { Access, Credentials } from "./credentials.js";
import type { Said } from "./said.js";

export class ApiError extends Error {
  constructor(
    /** HTTP's */
    readonly status: number,
    message: string,
    /** so long it wants to be left alone */
    readonly afterMs = 0,
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

export interface ApiTiming {
  /** for an answer's head, and between two pieces of its body */
  answerMs: number;
  /** for all of it: one that comes by the byte must not keep its caller for ever */
  wholeAnswerMs: number;
}

const usualTiming: ApiTiming = { answerMs: 30_000, wholeAnswerMs: 180_000 };

/** A server that has gone without a word is missed after this and ten seconds, also by a watch in which nothing happens. */
const aliveAfterMs = 30_000;

interface Patience {
  headMs: number;
  quietMs: number;
  wholeMs: number;
}

export class ApiClient {
  constructor(
    private readonly credentials: Credentials,
    private readonly said: Said,
    private readonly timing: ApiTiming = usualTiming,
  ) {}

  /** @throws ApiError with the server's own sentence, or the error of the connection */
  async call<T>(question: ApiRequest): Promise<T> {
    const { answerMs, wholeAnswerMs } = this.timing;
    const patience = { headMs: answerMs, quietMs: answerMs, wholeMs: wholeAnswerMs };
    const response = await this.#send(question, patience);
    return JSON.parse(await readAll(response)) as T;
  }

  /**
   * The lines of a watch, until the server ends it. A line that is too long is left out and said.
   * @param wholeMs the server should have ended it before
   * @param onAccepted the server has not refused it
   */
  async *lines(question: ApiRequest, wholeMs: number, onAccepted: () => void): AsyncGenerator<string> {
    const response = await this.#send(question, { headMs: this.timing.answerMs, quietMs: wholeMs, wholeMs });
    onAccepted();
    yield* splitLines(response, maxLineBytes, () =>
      this.said.trouble(`huge ${question.path}`, `${question.path}: an object of more than 8 MiB is left out`),
    );
  }

  async #send(question: ApiRequest, patience: Patience): Promise<IncomingMessage> {
    try {
      const response = await exchange(await this.credentials.current(), question, patience);
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

/** Resolves with the answer's head. A connection on which nothing comes for too long is given up. */
function exchange({ server, options }: Access, question: ApiRequest, patience: Patience): Promise<IncomingMessage> {
  const url = new URL(server);
  url.pathname = server.pathname.replace(/\/$/, "") + question.path;
  url.search = new URLSearchParams(question.query).toString();
  const body = question.body === undefined ? undefined : JSON.stringify(question.body);
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, {
      ...options,
      method: question.method,
      signal: question.signal,
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
    let answer: IncomingMessage | undefined;
    const giveUp = (what: string) => (answer ?? request).destroy(new Error(`${server.host} ${what}`));
    const after = (ms: number, what: string) => setTimeout(() => giveUp(`${what} ${ms / 1000} s`), ms).unref();
    // Node's own time-out begins with a connection whose handshake has ended
    const head = after(patience.headMs, "sent nothing for");
    const whole = after(patience.wholeMs, "was not done in");
    request.once("close", () => {
      clearTimeout(head);
      clearTimeout(whole);
      // Node tells of no error when the server switches to another protocol; else it is settled already
      reject(new Error(`${server.host} has closed the connection without an answer`));
    });
    request.on("timeout", () => giveUp(`sent nothing for ${patience.quietMs / 1000} s`));
    request.once("error", reject);
    request.once("response", (response) => {
      answer = response;
      clearTimeout(head);
      request.setTimeout(patience.quietMs);
      resolve(response);
    });
    request.setSocketKeepAlive(true, aliveAfterMs);
    request.end(body);
  });
}

async function refusal(response: IncomingMessage, { method, path }: ApiRequest): Promise<ApiError> {
  const text = await readAll(response).catch(() => "");
  const said = reasonIn(text) ?? response.statusMessage ?? "";
  const status = response.statusCode ?? 0;
  const afterMs = retryAfterMs(response.headers["retry-after"], response.headers.date);
  return new ApiError(status, `${method} ${path}: ${status} ${said.slice(0, 500)}`, afterMs);
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
