import { setTimeout as sleep } from "node:timers/promises";
import Long from "long";
import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { CancelledError } from "../../sandbox/errors.js";
import type { Runtime } from "../runtime.js";
import { call } from "./calls.js";
import { type LogLine, readLogLines } from "./log-lines.js";

export interface ContainerEnd {
  exitCode: number;
  /** "Completed", "Error", "OOMKilled" ... */
  reason: string;
}

export interface ExecResult {
  exitCode: number;
  stdout: Buffer;
  stderr: Buffer;
}

const { CONTAINER_EXITED } = proto.v1.ContainerState;

/** A container that runs, or has ended. */
export class Container {
  constructor(
    private readonly runtime: Runtime,
    readonly id: string,
    private readonly logPath: string,
  ) {}

  /** Waits for its end. The signal ends the waiting, not the container. */
  async wait(signal?: AbortSignal): Promise<ContainerEnd> {
    for (;;) {
      // before the state is looked at, so that no end comes in between
      const next = this.#nextEnd(signal);
      try {
        const end = await this.#end();
        if (end !== undefined) return end;
        await next.came;
      } finally {
        next.forget();
      }
    }
  }

  /** Its lines, from the first one to the last that it writes. The signal ends the reading. */
  lines(signal?: AbortSignal): AsyncIterable<LogLine> {
    return readLogLines(this.logPath, async () => {
      const ended = (await this.#end()) !== undefined;
      // what it has written shows itself in the file alone
      if (!ended) await sleep(lookAgainMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      if (signal?.aborted) throw new CancelledError("the caller reads no more");
      return !ended;
    });
  }

  /** Runs a program in it; `timeoutMs`, in whole seconds for the kernel's sake, kills it with all that it has started. */
  async exec(
    command: readonly string[],
    options: { timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<ExecResult> {
    const timeout = Long.fromNumber(Math.ceil((options.timeoutMs ?? 0) / 1000));
    const request = { container_id: this.id, cmd: [...command], timeout };
    const { exit_code, stdout, stderr } = await call(this.runtime, "ExecSync", request, options.signal);
    return { exitCode: exit_code, stdout: Buffer.from(stdout), stderr: Buffer.from(stderr) };
  }

  /** Its stop signal, and after the grace, or when that is 0 at once, SIGKILL. Back when everything in it has ended. */
  async stop(graceMs = 10_000): Promise<void> {
    const timeout = Long.fromNumber(Math.ceil(graceMs / 1000));
    await call(this.runtime, "StopContainer", { container_id: this.id, timeout });
  }

  /** Kills it if it runs; its log stays. */
  async remove(): Promise<void> {
    await call(this.runtime, "RemoveContainer", { container_id: this.id });
  }

  async #end(): Promise<ContainerEnd | undefined> {
    const { status } = await call(this.runtime, "ContainerStatus", { container_id: this.id });
    if (status?.state !== CONTAINER_EXITED) return undefined;
    return { exitCode: status.exit_code ?? 0, reason: status.reason ?? "" };
  }

  /** Something has happened that may be its end. */
  #nextEnd(signal: AbortSignal | undefined): { came: Promise<void>; forget(): void } {
    let forget = (): void => undefined;
    const came = new Promise<void>((resolve, reject) => {
      const unsubscribe = this.runtime.node.observer.subscribe((happening) => {
        if (happening.type === "container-event" && happening.containerId === this.id) settle(resolve);
      });
      const onAbort = () => settle(() => reject(new CancelledError("the caller waits no more")));
      const settle = (then: () => void) => {
        unsubscribe();
        signal?.removeEventListener("abort", onAbort);
        then();
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      if (signal?.aborted) onAbort();
      forget = () => settle(resolve);
    });
    return { came, forget: () => forget() };
  }
}

const lookAgainMs = 50;
