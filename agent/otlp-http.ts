/** OTLP/HTTP in JSON (opentelemetry-proto, docs/specification.md, section "OTLP/HTTP"). */
import type { Dispatcher } from "undici";
import "./closing-connections.js";

/** Of the specification, section "Retryable Response Codes". */
export const retryable = new Set([429, 502, 503, 504]);

const longestAnswer = 4096;

/** Without the name and the password that it may have: for messages. */
export function shownUrl({ origin, pathname }: URL): string {
  return `${origin}${pathname}`;
}

/** Of "http://NAME:PASSWORD@HOST". */
export function credentialsOf({ username, password }: URL): { authorization?: string } {
  if (username === "" && password === "") return {};
  const both = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(both).toString("base64")}` };
}

export interface OtlpAnswer {
  status: number;
  text: string;
  retryAfterMs: number;
}

export async function postOtlp(
  dispatcher: Dispatcher,
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: string | Buffer,
  signal: AbortSignal,
): Promise<OtlpAnswer> {
  const answer = await dispatcher.request({
    origin: url.origin,
    path: url.pathname + url.search,
    method: "POST",
    headers: { "content-type": "application/json", ...credentialsOf(url), ...headers },
    body,
    signal,
  });
  let text = "";
  for await (const part of answer.body) if (text.length < longestAnswer) text += String(part);
  const seconds = Number(answer.headers["retry-after"] ?? 0);
  return {
    status: answer.statusCode,
    text: text.slice(0, longestAnswer),
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : 0,
  };
}

/** KeyValue */
export const attribute = (key: string, value: string) => ({ key, value: { stringValue: value } });
