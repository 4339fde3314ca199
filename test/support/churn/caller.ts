/** Calls as impatient clients make them: some have a deadline that is too short, some are cancelled in the middle. */
import * as grpc from "@grpc/grpc-js";
import { type AnyMethod, methodDefinition, services } from "../../../agent/services.js";
import type { Random } from "../comparison/random.js";

const methods = {
  ...services["runtime.v1.RuntimeService"],
  ...services["runtime.v1.ImageService"],
  ...services["berth.v1.Admin"],
};
type Methods = typeof methods;
type QuestionOf<M extends AnyMethod> = Parameters<M["request"]["encode"]>[0];
type AnswerOf<M extends AnyMethod> = ReturnType<M["response"]["decode"]>;

/** Far more than any call may take, on a machine that does much else. */
const patienceMs = 90_000;

/** What an agent that works may answer: the request's fault, the state's, the client's own, or that the agent was killed. */
const expected: ReadonlySet<grpc.status> = new Set([
  grpc.status.CANCELLED,
  grpc.status.INVALID_ARGUMENT,
  grpc.status.NOT_FOUND,
  grpc.status.ALREADY_EXISTS,
  grpc.status.FAILED_PRECONDITION,
  grpc.status.UNAVAILABLE,
]);

/** How calls went. */
export class Tally {
  readonly counts = new Map<string, number>();
  readonly wrong: string[] = [];
  /** one of each sentence, without its ids */
  readonly sentences = new Map<string, number>();

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}

export class Caller {
  readonly #connection: grpc.Client;

  /** @param socket "unix:///PATH" of an agent that listens */
  constructor(
    socket: string,
    private readonly tally: Tally,
  ) {
    this.#connection = new grpc.Client(socket, grpc.credentials.createInsecure());
  }

  close(): void {
    this.#connection.close();
  }

  /** undefined: it failed, which is told to the tally. `patient`: neither cancelled nor cut short */
  call<Name extends keyof Methods>(
    random: Random,
    name: Name,
    request: QuestionOf<Methods[Name]>,
    { patient = false, mayTakeLong = false } = {},
  ): Promise<AnswerOf<Methods[Name]> | undefined> {
    const service = Object.entries(services).find(([, itsMethods]) => name in itsMethods)?.[0] ?? "";
    const definition = methodDefinition(service, name, methods[name]);
    const fate = patient ? 1 : random.next();
    const soonMs = random.chance(0.5) ? random.whole(0, 8) : random.whole(0, 120);
    const deadline = Date.now() + (fate < 0.12 ? soonMs : patienceMs);
    return new Promise((resolve) => {
      const call = this.#connection.makeUnaryRequest(
        definition.path,
        definition.requestSerialize as (message: typeof request) => Buffer,
        definition.responseDeserialize as (bytes: Buffer) => AnswerOf<Methods[Name]>,
        request,
        new grpc.Metadata(),
        { deadline },
        (error, answer) => {
          this.#judge(name, error, { isShort: fate < 0.12 || mayTakeLong });
          resolve(answer);
        },
      );
      if (fate >= 0.12 && fate < 0.24) setTimeout(() => call.cancel(), soonMs);
    });
  }

  #judge(name: string, error: grpc.ServiceError | null, { isShort }: { isShort: boolean }): void {
    const code = error?.code ?? grpc.status.OK;
    this.tally.count(`${name} ${grpc.status[code]}`);
    if (error === null) return;
    const details = error.details
      .replace(/[0-9a-f]{64}/g, "ID")
      .replace(/(No connection|Deadline exceeded).*/, "$1 ...");
    const sentence = `${name}: ${grpc.status[code]}: ${details}`;
    this.tally.sentences.set(sentence, (this.tally.sentences.get(sentence) ?? 0) + 1);
    if (expected.has(code) || (code === grpc.status.DEADLINE_EXCEEDED && isShort)) return;
    this.tally.wrong.push(sentence);
  }
}
