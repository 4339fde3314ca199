/** Passes that callers share: whoever asks while one is under way, or shortly after it, gets its result. */

/** For how long a pass serves further callers, from its beginning; one that takes longer serves them until it ends. */
const freshMs = 100;

interface Pass<T> {
  begunAtMs: number;
  done: boolean;
  result: Promise<T>;
}

export class SharedPasses<Subject extends object, T> {
  readonly #latest = new WeakMap<Subject, Pass<T>>();

  constructor(private readonly run: (subject: Subject) => Promise<T>) {}

  /** The fresh one, if there is one. */
  latest(subject: Subject): Promise<T> | undefined {
    const pass = this.#latest.get(subject);
    if (pass === undefined || (pass.done && performance.now() - pass.begunAtMs >= freshMs)) return undefined;
    return pass.result;
  }

  /** The fresh one, or a new one. */
  take(subject: Subject): Promise<T> {
    const fresh = this.latest(subject);
    if (fresh !== undefined) return fresh;
    const pass = { begunAtMs: performance.now(), done: false, result: this.run(subject) };
    this.#latest.set(subject, pass);
    pass.result.then(
      () => {
        pass.done = true;
      },
      // a pass that failed serves nobody else
      () => this.#latest.delete(subject),
    );
    return pass.result;
  }
}
