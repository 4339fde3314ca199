import type { FailureKind } from "./errors.js";

export type LifeEvent = "created" | "started" | "stopped" | "deleted";

/** What Kubernetes calls a pod. */
export interface PodNames {
  namespace: string;
  name: string;
  uid: string;
}

/** What happened, typed. Metrics and the log subscribe; nothing here knows them. */
export type Happening =
  /** a step of a longer operation: "start-pod" / "network" */
  | { type: "step"; operation: string; step: string; seconds: number }
  | { type: "container-exit"; podId: string; containerId: string; exitCode: number; oomKilled: boolean }
  | { type: "oom"; podId: string; containerId: string }
  /** seccomp has killed `program` for a system call, refused it, or told of it, and the profile wants it to be recorded */
  | {
      type: "seccomp-denied";
      podId: string;
      containerId: string;
      program: string;
      call: string;
      outcome: "killed" | "refused" | "logged";
    }
  /** output that could not be written to its container's log; `begins`: for the first time, or again */
  | { type: "log-dropped"; podId: string; containerId: string; bytes: number; errno: number; begins: boolean }
  /** output of an ExecSync that its answer had no room for */
  | {
      type: "exec-output-cut";
      podId: string;
      containerId: string;
      command: string;
      bytes: number;
      requestId: string | undefined;
    }
  /** each once, in this order; one that was never started is only created, stopped and deleted */
  | { type: "container-event"; event: LifeEvent; podId: string; containerId: string }
  /** of the sandbox itself; told when it is so */
  | { type: "pod-event"; event: LifeEvent; podId: string }
  | { type: "monitor-lost"; podId: string }
  /** a pull of an image; `failure` is undefined when it succeeded */
  | { type: "pull-begun"; priority: "normal" | "low" }
  | {
      type: "pull-ended";
      priority: "normal" | "low";
      /** the whole reference */
      image: string;
      failure: { kind: FailureKind; sentence: string } | undefined;
    }
  /** of layers, as a registry sends them */
  | { type: "pull-bytes"; bytes: number }
  /** a record of a pod or a container, or a change of one, was written, or could not be */
  | { type: "record-written"; seconds: number; failed: boolean }
  /** something that a crash left was found and removed */
  | { type: "repaired"; what: string; subject: string; pod?: PodNames }
  /** something of ours that another program took away was made again */
  | { type: "restored"; what: string; subject: string }
  /** something that was asked for and is done otherwise here; each sentence once in an agent's life */
  | { type: "limitation"; sentence: string }
  /** one of the CRI's conditions is false, with the reason, or true again */
  | { type: "condition"; condition: string; isTrue: boolean; sentence: string }
  /** a module of the administrator's has changed a container's spec; a text for each change */
  | { type: "adjusted"; subject: string; path: string; changed: readonly string[] }
  /** an undo or a removal that failed and will be tried again */
  | {
      type: "trouble";
      what: string;
      subject: string;
      error: unknown;
      pod?: PodNames;
      /** so often it has failed, where that is counted */
      attempts?: number;
    };

export type Listener = (happening: Happening) => void;

export class Observer {
  readonly #listeners = new Set<Listener>();
  readonly #said = new Set<string>();

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(happening: Happening): void {
    for (const listener of this.#listeners) listener(happening);
  }

  /** Tells of a limitation of this host. `about`: what it is told once for. */
  limitation(about: string, sentence: string): void {
    if (this.#said.has(about)) return;
    this.#said.add(about);
    this.emit({ type: "limitation", sentence });
  }

  /** Times one step of an operation. */
  async step<T>(operation: string, step: string, run: () => Promise<T> | T): Promise<T> {
    const begun = process.hrtime.bigint();
    try {
      return await run();
    } finally {
      this.emit({ type: "step", operation, step, seconds: Number(process.hrtime.bigint() - begun) / 1e9 });
    }
  }
}
