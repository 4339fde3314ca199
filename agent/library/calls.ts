/** The CRI's calls within this process: the same handlers, without gRPC. */
import { callTable } from "../call-table.js";
import type { Runtime } from "../runtime.js";
import { imageService, runtimeService } from "../services.js";

const methods = { ...runtimeService, ...imageService };
type Methods = typeof methods;
type Unary = { [Name in keyof Methods]: Methods[Name]["stream"] extends true ? never : Name }[keyof Methods];
type QuestionOf<Name extends Unary> = Parameters<Methods[Name]["request"]["encode"]>[0];
type AnswerOf<Name extends Unary> = ReturnType<Methods[Name]["response"]["decode"]>;

/** A method's messages, whichever they are: the types above hold them together. */
interface Codecs {
  request: Codec;
  response: Codec;
}
interface Codec {
  encode(message: unknown): { finish(): Uint8Array };
  decode(bytes: Uint8Array): unknown;
}

/**
 * Calls a handler with a request as it would have come over the wire: everything that is not given has its default.
 * @throws BerthError, whose `kind` is the gRPC code
 */
export async function call<Name extends Unary>(
  runtime: Runtime,
  name: Name,
  question: QuestionOf<Name>,
  signal?: AbortSignal,
): Promise<AnswerOf<Name>> {
  signal?.throwIfAborted();
  const { request, response } = methods[name] as unknown as Codecs;
  const whole = request.decode(request.encode(question).finish());
  const handler = callTable[name] as (runtime: Runtime, request: unknown, signal: AbortSignal) => unknown;
  const answer = await handler(runtime, whole, signal ?? new AbortController().signal);
  return response.decode(response.encode(answer).finish()) as AnswerOf<Name>;
}
