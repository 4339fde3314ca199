import { Worker } from "node:worker_threads";
import type { SpecSubject } from "../../sandbox/adjust-spec.js";
import { DeadlineExceededError, FailedPreconditionError, messageOf } from "../../sandbox/errors.js";
import type { OciSpec } from "../../sandbox/spec/oci.js";

/** What a module exports by default. It changes the spec that it gets, or answers another one. */
export type SpecHook = (spec: OciSpec, subject: SpecSubject) => OciSpec | undefined | Promise<OciSpec | undefined>;

export interface Question {
  id: number;
  spec: OciSpec;
  subject: SpecSubject;
}

export type Answer = { id: number; spec: OciSpec } | { id: number; error: string };

interface Waiting {
  resolve(spec: OciSpec): void;
  reject(error: Error): void;
}

const patienceMs = 5_000;
const heapMiB = 64;

/** One module, in a thread of its own that is started with the first container, and again after it has failed. */
export class HookThread {
  #worker: Worker | undefined;
  #nextId = 0;
  readonly #waiting = new Map<number, Waiting>();

  constructor(readonly path: string) {}

  /**
   * @throws FailedPreconditionError when the module cannot be loaded or throws, DeadlineExceededError when it takes
   *   longer than five seconds; its thread is ended then
   */
  async call(spec: OciSpec, subject: SpecSubject): Promise<OciSpec> {
    const id = this.#nextId++;
    this.#worker ??= this.#start();
    const worker = this.#worker;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<OciSpec>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        timer = setTimeout(() => {
          this.#end(worker, new DeadlineExceededError(`${this.path} has not answered for ${patienceMs / 1000} s`));
        }, patienceMs);
        worker.postMessage({ id, spec, subject } satisfies Question);
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  #start(): Worker {
    const worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData: { path: this.path },
      resourceLimits: { maxOldGenerationSizeMb: heapMiB },
      // nothing of the agent's
      env: {},
    });
    worker.unref();
    worker.on("message", (answer: Answer) => {
      const waiting = this.#waiting.get(answer.id);
      if ("spec" in answer) waiting?.resolve(answer.spec);
      else waiting?.reject(new FailedPreconditionError(`${this.path}: ${answer.error}`));
    });
    worker.on("error", (error) => {
      this.#end(worker, new FailedPreconditionError(`${this.path}: ${messageOf(error)}`, { cause: error }));
    });
    worker.on("exit", () => this.#end(worker, new FailedPreconditionError(`${this.path} has ended its thread`)));
    return worker;
  }

  /** Everybody who waits for it hears why; the next call starts another. */
  #end(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(error);
    void worker.terminate();
  }
}
