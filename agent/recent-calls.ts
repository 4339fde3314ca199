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
  method: string;
  /** gRPC's name of the status */
  code: string;
  ms: number;
  /** a sentence; absent: it succeeded */
  error?: string;
}

const mostRemembered = 200;
/** of those that come every second: they would leave no room for the others */
const mostQuiet = 50;

export class RecentCalls {
  readonly #finished: FinishedCallLine[] = [];
  readonly #quiet: FinishedCallLine[] = [];
  readonly #running = new Set<{ method: string; begun: number; at: number; subjects: Subjects }>();

  /** The function that it answers is called once, when the call has ended. `isQuiet`: it changes nothing, and is frequent. */
  begin(method: string, subjects: Subjects, isQuiet: boolean): (code: string, error?: string) => void {
    const [finished, most] = isQuiet ? [this.#quiet, mostQuiet] : [this.#finished, mostRemembered];
    const call = { method, begun: performance.now(), at: Date.now(), subjects };
    this.#running.add(call);
    return (code, error) => {
      this.#running.delete(call);
      if (finished.length === most) finished.shift();
      finished.push({ ...lineOf(call), code, ...(error !== undefined && { error }) });
    };
  }

  /** In the order of their begins. */
  finished(): FinishedCallLine[] {
    return [...this.#finished, ...this.#quiet].sort((one, other) =>
      one.at < other.at ? -1 : one.at > other.at ? 1 : 0,
    );
  }

  /** In the order of their begins; `ms`: until now. */
  running(): Omit<FinishedCallLine, "code">[] {
    return [...this.#running].map(lineOf);
  }
}

function lineOf({ method, begun, at, subjects }: { method: string; begun: number; at: number; subjects: Subjects }) {
  return {
    at: new Date(at).toISOString(),
    method,
    ms: Math.round((performance.now() - begun) * 10) / 10,
    ...subjects,
  };
}
