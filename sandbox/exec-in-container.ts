import type { Container } from "./container.js";
import { DeadlineExceededError, FailedPreconditionError, InvalidArgumentError } from "./errors.js";
import { checkNotCancelled } from "./flights.js";
import { toExecProcess } from "./launch-plan.js";
import { isNotRunning, toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { isForeign } from "./oci-runtimes.js";
import { seccompFilter } from "./seccomp-filters.js";
import { runtimeProcess } from "./spec/runtime-config.js";

export interface ExecOptions {
  command: string[];
  /** 0: no limit */
  timeoutMs: number;
  /** of both streams together; what is over is dropped */
  outputLimitBytes: number;
}

export interface ExecResult {
  stdout: Buffer;
  stderr: Buffer;
  exitCode: number;
}

const stdoutStream = 1;

/**
 * Runs a program in a running container and collects its output. At the timeout (DeadlineExceededError), or when the
 * signal aborts, everything that it started is killed. A program that cannot be executed is an InvalidArgumentError.
 */
export async function execInContainer(
  node: SandboxNode,
  container: Container,
  options: ExecOptions,
  signal?: AbortSignal,
): Promise<ExecResult> {
  const { id, podId, phase, spec } = container.record;
  if (options.command.length === 0) throw new InvalidArgumentError("cmd: there is no command to run");
  if (phase !== "running" || spec === null)
    throw new FailedPreconditionError(`container ${id} is ${phase}, not running`);
  const output: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
  const process = toExecProcess(spec, {
    args: options.command,
    terminal: false,
    seccompFilter: seccompFilter(spec),
  });
  try {
    const outcome = await node.monitors.get(podId).exec(
      {
        containerId: id,
        process,
        timeoutMs: options.timeoutMs,
        outputLimitBytes: options.outputLimitBytes,
        ...(isForeign(node, podId) && {
          ociProcess: runtimeProcess({ ...spec.process, args: options.command, terminal: false }),
        }),
      },
      (stream, data) => output[stream === stdoutStream ? "stdout" : "stderr"].push(data),
      signal,
    );
    if (outcome.timedOut) {
      throw new DeadlineExceededError(
        `the command ${JSON.stringify(options.command[0])} in container ${id} ran into its timeout of ${options.timeoutMs / 1000} s`,
      );
    }
    checkNotCancelled(signal, "ExecSync");
    const { exitCode } = outcome;
    return { stdout: Buffer.concat(output.stdout), stderr: Buffer.concat(output.stderr), exitCode };
  } catch (error) {
    if (isNotRunning(error)) throw new FailedPreconditionError(`container ${id} is not running`, { cause: error });
    throw toCallError(error, `the command ${JSON.stringify(options.command[0])} in container ${id} failed`);
  }
}
