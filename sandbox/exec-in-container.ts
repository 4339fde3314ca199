import { constants } from "node:os";
import type { Container } from "./container.js";
import { DeadlineExceededError, FailedPreconditionError, InvalidArgumentError, UnavailableError } from "./errors.js";
import { fieldsOfExec } from "./field-of-step.js";
import { checkNotCancelled } from "./flights.js";
import { unlessFrozen, whyMonitorIsFrozen } from "./frozen-monitor.js";
import { toExecProcess } from "./launch-plan.js";
import {
  closeStreams,
  type ExecOutcome,
  type ExecRequest,
  isNotRunning,
  MonitorStepError,
  type ProgramStreams,
  toCallError,
} from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { isForeign } from "./oci-runtimes.js";
import { seccompFilter } from "./seccomp-filters.js";
import type { OciSpec } from "./spec/oci.js";
import { runtimeProcess } from "./spec/runtime-config.js";

export interface ExecOptions {
  command: string[];
  /** 0: no limit */
  timeoutMs: number;
  /** of both streams together; what is over is dropped */
  outputLimitBytes: number;
  /** of the call that it is for: see request-id.ts */
  requestId?: string | undefined;
}

export interface ExecResult {
  stdout: Buffer;
  stderr: Buffer;
  exitCode: number;
}

const { ENODEV, ENOENT } = constants.errno;
const stdoutStream = 1;

/** The monitor ends an exec at its timeout; for so long after that it may be slow to say so. */
const answerTimeoutMs = 5_000;

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
  const { id, podId } = container.record;
  const { timeoutMs, outputLimitBytes, requestId } = options;
  const request = execRequest(node, container, options.command, false);
  const output: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
  try {
    const running = node.monitors
      .get(podId)
      .exec(
        { ...request, timeoutMs, outputLimitBytes, requestId },
        (stream, data) => output[stream === stdoutStream ? "stdout" : "stderr"].push(data),
        signal,
      );
    const outcome = await (timeoutMs === 0 ? running : unlessSilent(node, container, running, options));
    if (outcome.droppedBytes > 0) {
      const command = options.command[0] ?? "";
      const bytes = outcome.droppedBytes;
      node.observer.emit({ type: "exec-output-cut", podId, containerId: id, command, bytes, requestId });
    }
    if (outcome.timedOut) throw new DeadlineExceededError(timedOut(container, options));
    checkNotCancelled(signal, "ExecSync");
    const { exitCode } = outcome;
    return { stdout: Buffer.concat(output.stdout), stderr: Buffer.concat(output.stderr), exitCode };
  } catch (error) {
    throw toExecError(error, container, options.command);
  }
}

function timedOut({ record }: Container, { command, timeoutMs }: ExecOptions): string {
  return `the command ${JSON.stringify(command[0])} in container ${record.id} ran into its timeout of ${timeoutMs / 1000} s`;
}

/** A monitor that somebody has frozen answers nobody: it is not waited for beyond the timeout. */
async function unlessSilent(
  node: SandboxNode,
  container: Container,
  running: Promise<ExecOutcome>,
  options: ExecOptions,
): Promise<ExecOutcome> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    const fail = () => {
      const why = whyMonitorIsFrozen(node, container.record.podId) ?? "does not answer";
      reject(new DeadlineExceededError(`${timedOut(container, options)}: the pod's monitor ${why}`));
    };
    timer = setTimeout(fail, Math.min(options.timeoutMs + answerTimeoutMs, 0x7fffffff));
  });
  try {
    return await Promise.race([running, silence]);
  } finally {
    clearTimeout(timer);
  }
}

export interface StreamedExecOptions {
  command: string[];
  /** a terminal in place of the three streams */
  tty: boolean;
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** of the call that has asked for it: its streams are served later */
  requestId?: string | undefined;
}

export interface StreamedExec {
  /** the caller's */
  streams: ProgramStreams;
  /** the exit code. InvalidArgumentError: the program cannot be executed */
  ended: Promise<number>;
  /** whoever used the program has gone */
  hangUp(): void;
}

const SIGHUP = 1;

/** As when the container ends while its terminal is being opened. */
function endedWithoutStreams({ record }: Container, [program]: string[]): FailedPreconditionError {
  return new FailedPreconditionError(
    `the command ${JSON.stringify(program)} in container ${record.id} has ended before its streams were there`,
  );
}

/** Runs a program in a running container with live streams; back when they are there. */
export async function startExec(
  node: SandboxNode,
  container: Container,
  { command, tty, stdin, stdout, stderr, requestId }: StreamedExecOptions,
): Promise<StreamedExec> {
  const request = execRequest(node, container, command, tty);
  const monitor = node.monitors.get(container.record.podId);
  let givenUp = false;
  const started = new Promise<StreamedExec>((resolve, reject) => {
    const exec = monitor.execWithStreams({ ...request, requestId, stdin, stdout, stderr }, (streams) => {
      const hangUp = () => exec.signal(SIGHUP);
      if (!givenUp) return resolve({ streams, ended, hangUp });
      closeStreams(streams);
      hangUp();
    });
    const ended = exec.ended.catch((error: unknown) => Promise.reject(toExecError(error, container, command)));
    // before the streams were there it is the call's own failure, and afterwards their user's
    ended.then(() => reject(endedWithoutStreams(container, command)), reject);
  });
  try {
    return await unlessFrozen(node, container.record.podId, started);
  } catch (error) {
    givenUp = true;
    throw error;
  }
}

/** FailedPreconditionError: the container does not run. */
export function specOfRunning(container: Container): OciSpec {
  const { id, phase, spec } = container.record;
  if (phase !== "running" || spec === null)
    throw new FailedPreconditionError(`container ${id} is ${phase}, not running`);
  return spec;
}

function execRequest(node: SandboxNode, container: Container, args: string[], terminal: boolean): ExecRequest {
  const { id, podId } = container.record;
  if (args.length === 0) throw new InvalidArgumentError("cmd: there is no command to run");
  const spec = specOfRunning(container);
  return {
    containerId: id,
    process: toExecProcess(spec, { args, terminal, seccompFilter: seccompFilter(spec) }),
    ...(isForeign(node, podId) && { ociProcess: runtimeProcess({ ...spec.process, args, terminal }) }),
  };
}

function toExecError(error: unknown, container: Container, command: string[]): Error {
  const { id } = container.record;
  // its end is told before that of its pod's monitor, which has no more words for the exec then
  const endedWithPod = error instanceof UnavailableError && container.ended.isOpen;
  if (isNotRunning(error) || endedWithPod) {
    return new FailedPreconditionError(`container ${id} is not running`, { cause: error });
  }
  if (error instanceof MonitorStepError && isWithoutCgroup(error)) {
    return new FailedPreconditionError(
      `container ${id} has lost its cgroup: it has ended, or somebody has removed it`,
      {
        cause: error,
      },
    );
  }
  return toCallError(error, `the command ${JSON.stringify(command[0])} in container ${id} failed`, fieldsOfExec);
}

/** On v2 and on v1; ENODEV: the cgroup went after its file was opened. */
function isWithoutCgroup({ step, errnoValue }: MonitorStepError): boolean {
  return ["make the exec's cgroup", "join the cgroup"].includes(step) && [ENOENT, ENODEV].includes(errnoValue);
}
