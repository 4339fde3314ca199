/** Answers that are none: which of our errors they are, and what the server has to say about it. */
import {
  InternalError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  UnavailableError,
} from "../../sandbox/errors.js";
import type { HttpResponse } from "./http.js";
import { readBody } from "./http-body.js";
import { retryAfterMs, TransientError } from "./transient.js";

const maxErrorBytes = 64 * 1024;
const maxReasons = 3;
const maxReasonLength = 300;
const transientStatuses = new Set([408, 425, 429, 500, 502, 503, 504]);

/**
 * The error that an answer stands for; its body is read or destroyed.
 * @param what was asked for
 */
export async function failureOf(response: HttpResponse, what: string): Promise<Error> {
  const { status, from, headers } = response;
  const why = await reasonOf(response);
  if (status === 404 || status === 410) return new NotFoundError(`${what} is not on ${from}`);
  if (status === 401 || status === 403)
    return new PermissionDeniedError(`${from} denies ${what} (HTTP ${status})${why}`);
  if (status === 400) return new InvalidArgumentError(`${from} refuses the request for ${what} (HTTP 400)${why}`);
  if (status >= 200 && status < 300) return new InternalError(`${from} answered ${what} with HTTP ${status}`);
  const message = `${from} answered HTTP ${status} for ${what}${why}`;
  if (!transientStatuses.has(status)) return new UnavailableError(message);
  const afterMs = retryAfterMs([headers["retry-after"] ?? ""].flat()[0], headers.date);
  return new TransientError(message, { afterMs });
}

/**
 * What a registry says in the form that the OCI distribution specification has for errors; "" when it says nothing. Only
 * the registry itself is quoted: where it leads us may be a place whose words its owner should not hear from us.
 */
async function reasonOf(response: HttpResponse): Promise<string> {
  try {
    const isJson = /^application\/(?:[a-z.-]+\+)?json\b/i.test(
      [response.headers["content-type"] ?? ""].flat()[0] ?? "",
    );
    if (response.elsewhere || !isJson) return "";
    const { errors } = JSON.parse((await readBody(response, maxErrorBytes, "an error")).toString("utf8"));
    const reasons = (Array.isArray(errors) ? errors : []).flatMap(({ message }) => (isWords(message) ? [message] : []));
    const said = reasons.slice(0, maxReasons).map((reason) => printable(reason));
    return said.length === 0 ? "" : `: ${said.join("; ")}`;
  } catch {
    return "";
  } finally {
    response.body.destroy();
  }
}

function isWords(value: unknown): value is string {
  return typeof value === "string" && value.trim() !== "";
}

/** It goes to logs and terminals. */
function printable(text: string): string {
  return text
    .replace(/[\p{C}\p{Z}]+/gu, " ")
    .trim()
    .slice(0, maxReasonLength);
}
