/** The latest calls, and those that are not answered yet: for `berth debug events` and for crash reports. */

/** What a call is about. Nothing else of a request is kept, for it may have secrets. */
interface Subjects {
  pod?: string;
  container?: string;
  image?: string;
}

export interface FinishedCallLine extends Subjects {
  /** ISO 8601, of the call's begin */
  at: string;
  /** its id in logs */
  request: string;
  method: string;
  /** gRPC's name of the status */
  code: string;
  ms: number;
  /** a sentence; absent: it succeeded */
  error?: string;
}

/** As it is kept: most are never asked for. */
interface Call {
  method: string;
  request: string;
  subjects: Subjects;
  /** ms since the epoch */
  at: number;
  /** by performance.now() */
  begun: number;
  end?: { at: number; code: string; error: string | undefined };
}

const mostRemembered = 200;
/** of those that come every second: they would leave no room for the others */
const mostQuiet = 50;

export class RecentCalls {
  readonly #finished: Call[] = [];
  readonly #quiet: Call[] = [];
  readonly #running = new Set<Call>();

  /** The function that it answers is called once, when the call has ended. `isQuiet`: it changes nothing, and is frequent. */
  begin(method: string, request: string, subjects: Subjects, isQuiet: boolean): (code: string, error?: string) => void {
    const [finished, most] = isQuiet ? [this.#quiet, mostQuiet] : [this.#finished, mostRemembered];
    const call: Call = { method, request, subjects, at: Date.now(), begun: performance.now() };
    this.#running.add(call);
    return (code, error) => {
      this.#running.delete(call);
      call.end = { at: performance.now(), code, error };
      if (finished.length === most) finished.shift();
      finished.push(call);
    };
  }

  /** In the order of their begins. */
  finished(): FinishedCallLine[] {
    return [...this.#finished, ...this.#quiet]
      .sort((one, other) => one.at - other.at)
      .map((call) => {
        const { code = "", error } = call.end ?? {};
        return { ...lineOf(call), code, ...(error !== undefined && { error }) };
      });
  }

  /** In the order of their begins; `ms`: until now. */
  running(): Omit<FinishedCallLine, "code">[] {
    return [...this.#running].map(lineOf);
  }
}

function lineOf({ method, request, subjects, at, begun, end }: Call) {
  const ms = (end?.at ?? performance.now()) - begun;
  return { at: new Date(at).toISOString(), request, method, ms: Math.round(ms * 10) / 10, ...subjects };
}
