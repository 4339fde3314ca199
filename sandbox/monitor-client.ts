/** The agent's end of cri-proto/monitor.proto: one connection to the monitor of one pod, a method per call. */
import Long from "long";
import { berth } from "../cri-proto/generated/monitor.js";
import { isSystemError, type MonitorSocket, native, type SystemError } from "../native/binding.js";
import { describeErrno, isDiskFullErrno } from "./errno.js";
import {
  AlreadyExistsError,
  BerthError,
  FailedPreconditionError,
  InternalError,
  InvalidArgumentError,
  NotFoundError,
  ResourceExhaustedError,
  UnavailableError,
} from "./errors.js";
import type { FieldOfStep } from "./field-of-step.js";
import { isUsedUpErrno } from "./machine-trouble.js";
import { currentRequestId } from "./request-id.js";

const { FromMonitor, ToMonitor, Error: MonitorErrorMessage } = berth.monitor.v1;
type Call = Omit<berth.monitor.v1.IToMonitor, "id">;
type Reply = berth.monitor.v1.IReply;

/** What a monitor takes: it hangs up on a peer that sends more, and its pod would be lost. */
const largestFrameBytes = 4 * 1024 * 1024;

/** What the kernel carries in one message (SCM_MAX_FD). */
const descriptorsPerFrame = 253;

const protocolVersions = { oldest_version: 1, newest_version: 1 };

export interface MonitorEvents {
  containerExit(exit: berth.monitor.v1.IContainerExit): void;
  /** of a start that an earlier agent has asked for */
  containerStarted(id: string, started: ProgramStart): void;
  outOfMemory(id: string): void;
  /** output that could not be written to its log */
  logDropped(id: string, dropped: { bytes: number; errno: number; begins: boolean }): void;
  /** the monitor is gone; every call in flight has failed */
  closed(error: SystemError | null): void;
}

/** How a container's program has begun. */
export interface ProgramStart {
  /** nanoseconds since the epoch */
  startedAt: bigint;
  /** host pid of the init; 0: not told */
  pid: number;
}

/** The agent's ends of a program's streams, descriptors that the receiver closes. null: it has none. */
export interface ProgramStreams {
  /** a pipe's write end */
  stdin: number | null;
  stdout: number | null;
  stderr: number | null;
  /** a terminal's master, in place of the three */
  terminal: number | null;
}

export interface ExecRequest {
  containerId: string;
  process: berth.monitor.v1.IProcess;
  /** JSON, in a container of an OCI runtime */
  ociProcess?: string;
  requestId?: string | undefined;
}

/** What comes of an exec before its end. */
interface ExecHandlers {
  output?(stream: number, data: Uint8Array): void;
  /** with `streams` only */
  started?(streams: ProgramStreams): void;
}

interface Pending {
  /** with the descriptors of an attach */
  resolve(reply: Reply & { streams?: ProgramStreams }): void;
  reject(error: Error): void;
  handlers: ExecHandlers;
}

export interface ExecOutcome {
  /** of the program; 128 + signal when one ended it */
  exitCode: number;
  timedOut: boolean;
  /** bytes over the limit, thrown away by the monitor */
  droppedBytes: number;
}

/** A step that failed in the monitor or in a container's init: which one, on what, and the kernel's word for it. */
export class MonitorStepError extends Error {
  constructor(
    readonly kind: berth.monitor.v1.Error.Kind,
    readonly step: string,
    readonly subject: string,
    readonly errnoValue: number,
    message: string,
  ) {
    super(message);
    this.name = "MonitorStepError";
  }

  /** The same, as an error of a CRI call: `what` says what was asked for, `fieldOf` which field of it is wrong. */
  toCallError(what: string, fieldOf?: FieldOfStep): BerthError {
    const isInvalid = this.kind === MonitorErrorMessage.Kind.INVALID;
    const field = isInvalid ? fieldOf?.(this.step, this.subject, this.errnoValue) : undefined;
    const message = `${field === undefined ? "" : `${field}: `}${what}: ${this.message}`;
    const options = { cause: this };
    if (isDiskFullErrno(this.errnoValue)) return new ResourceExhaustedError(message, options);
    switch (this.kind) {
      case MonitorErrorMessage.Kind.NOT_FOUND:
        return new NotFoundError(message, options);
      case MonitorErrorMessage.Kind.INVALID:
        return new InvalidArgumentError(message, options);
      case MonitorErrorMessage.Kind.NOT_RUNNING:
        return new FailedPreconditionError(message, options);
      case MonitorErrorMessage.Kind.ALREADY_EXISTS:
        return new AlreadyExistsError(message, options);
      default:
        if (isUsedUpErrno(this.errnoValue)) return new ResourceExhaustedError(message, options);
        return new InternalError(message, options);
    }
  }
}

export class MonitorClient {
  #socket: MonitorSocket | null = null;
  #nextId = 1;
  readonly #pending = new Map<number, Pending>();
  /** host pid of the monitor, known from the handshake */
  pid = 0;

  private constructor(
    private readonly podId: string,
    private readonly events: MonitorEvents,
  ) {}

  /** Connects and shakes hands. UnavailableError: nobody listens, or the versions have nothing in common. */
  static async connect(podId: string, socketPath: string, events: MonitorEvents): Promise<MonitorClient> {
    const client = new MonitorClient(podId, events);
    try {
      client.#socket = native.connectMonitor(socketPath, {
        onFrame: (frame) => client.#receive(frame),
        onClose: (error) => client.#closed(error),
      });
    } catch (error) {
      throw new UnavailableError(`the monitor of pod sandbox ${podId} does not answer`, { cause: error });
    }
    try {
      const reply = await client.#call({ hello: protocolVersions });
      client.pid = reply.hello?.pid ?? 0;
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Ends the connection; the monitor and its pod live on. No event comes after it. */
  close(): void {
    this.#socket?.close();
    this.#socket = null;
    this.#failAll(new UnavailableError(`the connection to the monitor of pod sandbox ${this.podId} was closed`));
  }

  async setUpPod(request: berth.monitor.v1.ISetUpPod): Promise<void> {
    await this.#call({ set_up_pod: request });
  }

  /** Answers the host pid of the init, which waits for startContainer. */
  async createContainer(id: string, plan: berth.monitor.v1.IPlan, descriptors: number[]): Promise<number> {
    const call = { create_container: { id, plan } };
    // descriptors that went ahead of a call that is not sent would be the next one's
    if (descriptors.length > descriptorsPerFrame) encodeCall(call, this.#nextId);
    // frames that are sent in one go arrive in one go: no other call comes in between
    let sent = 0;
    const early: Promise<Reply>[] = [];
    for (; descriptors.length - sent > descriptorsPerFrame; sent += descriptorsPerFrame) {
      early.push(this.#call({ send_descriptors: {} }, descriptors.slice(sent, sent + descriptorsPerFrame)));
    }
    const created = this.#call(call, descriptors.slice(sent));
    const [reply] = await Promise.all([created, ...early]);
    return reply.create_container?.pid ?? 0;
  }

  /** After createContainer with hooks.pause: the rest of the creation. */
  async continueContainer(id: string): Promise<number> {
    const reply = await this.#call({ continue_container: { id } });
    return reply.create_container?.pid ?? 0;
  }

  async startContainer(id: string): Promise<ProgramStart> {
    const { start_container: started } = await this.#call({ start_container: { id } });
    return programStart(started);
  }

  async signalContainer(id: string, signal: number, all: boolean): Promise<void> {
    await this.#call({ signal_container: { id, signal, all } });
  }

  async deleteContainer(id: string): Promise<void> {
    await this.#call({ delete_container: { id } });
  }

  /** Tells a container's OCI runtime of limits that change: JSON, linux.resources of the OCI. */
  async updateContainer(id: string, resources: string): Promise<void> {
    await this.#call({ update_container: { id, resources: Buffer.from(resources) } });
  }

  async reopenLog(id: string): Promise<void> {
    await this.#call({ reopen_log: { id } });
  }

  async containers(): Promise<berth.monitor.v1.IContainerState[]> {
    const reply = await this.#call({ get_state: {} });
    return reply.state?.containers ?? [];
  }

  /** Kills every container and ends the monitor. */
  async shutdown(): Promise<void> {
    await this.#call({ shutdown: {} });
  }

  /** Runs a program in a container; when the signal aborts, its whole tree is killed and the outcome follows. */
  async exec(
    request: ExecRequest & { timeoutMs: number; outputLimitBytes: number },
    onOutput: (stream: number, data: Uint8Array) => void,
    signal?: AbortSignal,
  ): Promise<ExecOutcome> {
    const id = this.#nextId;
    const cancel = () => this.#cancelExec(id);
    const exec = {
      ...execMessage(request),
      timeout_ms: Long.fromNumber(request.timeoutMs, true),
      output_limit: Long.fromNumber(request.outputLimitBytes, true),
    };
    const done = this.#call({ exec, request_id: request.requestId ?? null }, [], { output: onOutput });
    signal?.addEventListener("abort", cancel, { once: true });
    if (signal?.aborted) cancel();
    try {
      const reply = await done;
      return {
        exitCode: reply.exec?.exit_code ?? 0,
        timedOut: reply.exec?.timed_out ?? false,
        droppedBytes: Number(toBigInt(reply.exec?.dropped_bytes)),
      };
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /**
   * Runs a program in a container whose streams are the caller's. `ended` answers its exit code; `signal` is sent to its
   * process group.
   */
  execWithStreams(
    request: ExecRequest & { stdin: boolean; stdout: boolean; stderr: boolean },
    onStarted: (streams: ProgramStreams) => void,
  ): { ended: Promise<number>; signal(number: number): void } {
    const id = this.#nextId;
    const { stdin, stdout, stderr } = request;
    const exec = { ...execMessage(request), streams: true, stdin, stdout, stderr };
    const ended = this.#call({ exec, request_id: request.requestId ?? null }, [], { started: onStarted });
    return {
      ended: ended.then((reply) => reply.exec?.exit_code ?? 0),
      signal: (number) => this.#cancelExec(id, number),
    };
  }

  /**
   * A container's own streams. stdout is always there: a socket that stands for the whole attachment, at the end of which
   * it ends; endOutput() on it says that no more input comes. With a terminal that is there for input and sizes alone.
   */
  async attach(
    containerId: string,
    { stdin, stdout, stderr }: Record<"stdin" | "stdout" | "stderr", boolean>,
  ): Promise<ProgramStreams> {
    const { streams } = await this.#call({ attach: { container_id: containerId, stdin, stdout, stderr } });
    if (streams === undefined) throw new InternalError("the monitor has answered an attach without streams");
    return streams;
  }

  /** With a signal only that is sent; else everything of the exec is killed. */
  #cancelExec(id: number, signal = 0): void {
    // the exec may have ended in the meantime: the answer, NOT_FOUND then, tells nobody anything
    this.#call({ cancel_exec: { id: Long.fromNumber(id, true), signal } }).catch(() => undefined);
  }

  #call(
    call: Call,
    descriptors: number[] = [],
    handlers: ExecHandlers = {},
  ): Promise<Reply & { streams?: ProgramStreams }> {
    const socket = this.#socket;
    if (socket === null) {
      return Promise.reject(new UnavailableError(`pod sandbox ${this.podId} has lost its monitor`));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, handlers });
      try {
        socket.send(encodeCall(call, id), descriptors);
      } catch (error) {
        this.#pending.delete(id);
        reject(asError(error));
      }
    });
  }

  #receive(frame: Buffer): void {
    const message = FromMonitor.decode(frame);
    if (message.exec_output) {
      const id = Number(toBigInt(message.exec_output.id));
      const { stream, data } = message.exec_output;
      this.#pending.get(id)?.handlers.output?.(stream ?? 0, data ?? new Uint8Array());
    } else if (message.exec_started) {
      this.#started(message.exec_started);
    } else if (message.reply) {
      this.#settle(message.reply);
    } else if (message.container_exit) {
      this.events.containerExit(message.container_exit);
    } else if (message.container_started) {
      this.events.containerStarted(message.container_started.id ?? "", programStart(message.container_started));
    } else if (message.out_of_memory) {
      this.events.outOfMemory(message.out_of_memory.id ?? "");
    } else if (message.log_dropped) {
      const { id, bytes, errno_value, begins } = message.log_dropped;
      const dropped = { bytes: Number(toBigInt(bytes)), errno: errno_value ?? 0, begins: begins ?? false };
      this.events.logDropped(id ?? "", dropped);
    }
  }

  #started(message: berth.monitor.v1.IExecStarted): void {
    const id = Number(toBigInt(message.id));
    const pending = this.#pending.get(id);
    let streams: ProgramStreams;
    try {
      streams = this.#takeStreams(message);
    } catch (error) {
      this.#pending.delete(id);
      // nobody will ever read what it writes
      this.#cancelExec(id);
      pending?.reject(asError(error));
      return;
    }
    if (pending?.handlers.started !== undefined) pending.handlers.started(streams);
    else closeStreams(streams);
  }

  /** The descriptors that came with a frame. ResourceExhaustedError: the agent has as many as it may. */
  #takeStreams(numbers: berth.monitor.v1.IAttachReply): ProgramStreams {
    const { stdin_fd, stdout_fd, stderr_fd, terminal_fd } = numbers;
    const count = Math.max(stdin_fd ?? 0, stdout_fd ?? 0, stderr_fd ?? 0, terminal_fd ?? 0);
    const descriptors = this.#takeDescriptors(count);
    const numbered = (number: number | null | undefined) => descriptors[(number ?? 0) - 1] ?? null;
    return {
      stdin: numbered(stdin_fd),
      stdout: numbered(stdout_fd),
      stderr: numbered(stderr_fd),
      terminal: numbered(terminal_fd),
    };
  }

  #takeDescriptors(count: number): number[] {
    try {
      return this.#socket?.takeDescriptors(count) ?? [];
    } catch (error) {
      if (!isSystemError(error) || error.errnoName !== "EMFILE") throw error;
      throw new ResourceExhaustedError("the agent has as many descriptors as it may (ulimit -n)", { cause: error });
    }
  }

  #settle(reply: Reply): void {
    const id = Number(toBigInt(reply.id));
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    let streams: ProgramStreams | undefined;
    try {
      streams = reply.attach ? this.#takeStreams(reply.attach) : undefined;
    } catch (error) {
      pending?.reject(asError(error));
      return;
    }
    if (reply.error) pending?.reject(monitorError(reply.error));
    else if (pending !== undefined) pending.resolve(streams === undefined ? reply : { ...reply, streams });
    else if (streams !== undefined) closeStreams(streams);
  }

  #closed(error: SystemError | null): void {
    this.#socket = null;
    this.#failAll(new UnavailableError(`pod sandbox ${this.podId} has lost its monitor`, { cause: error }));
    this.events.closed(error);
  }

  #failAll(error: Error): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new InternalError(String(error));
}

/** InvalidArgumentError: it is larger than a monitor takes. */
function encodeCall(call: Call, id: number): Uint8Array {
  const request_id = call.request_id ?? currentRequestId() ?? null;
  const frame = ToMonitor.encode({ ...call, request_id, id: Long.fromNumber(id, true) }).finish();
  if (frame.length <= largestFrameBytes) return frame;
  throw new InvalidArgumentError(
    `config: arguments, environment, mounts and paths take ${frame.length} bytes together; ${largestFrameBytes} at most are possible`,
  );
}

function execMessage({ containerId, process, ociProcess }: ExecRequest): berth.monitor.v1.IExec {
  return { container_id: containerId, process, oci_process: Buffer.from(ociProcess ?? "") };
}

/** For streams that nobody wants any more. */
export function closeStreams({ stdin, stdout, stderr, terminal }: ProgramStreams): void {
  for (const fd of [stdin, stdout, stderr, terminal]) {
    if (fd !== null) native.closeDescriptor(fd);
  }
}

/** Nanoseconds or counts of the protocol, which are Long there. */
export function toBigInt(value: Long | number | null | undefined): bigint {
  return value === null || value === undefined ? 0n : BigInt(value.toString());
}

/** True when the monitor answered that the container (or the exec) is not in the state, or not there, for the call. */
export function isNotRunning(error: unknown): boolean {
  const { NOT_FOUND, NOT_RUNNING } = MonitorErrorMessage.Kind;
  return error instanceof MonitorStepError && (error.kind === NOT_RUNNING || error.kind === NOT_FOUND);
}

/** True when the monitor answered that it has no such container (or exec). */
export function isUnknown(error: unknown): boolean {
  return error instanceof MonitorStepError && error.kind === MonitorErrorMessage.Kind.NOT_FOUND;
}

/** An error of a CRI call from anything that a call to a monitor threw. */
export function toCallError(error: unknown, what: string, fieldOf?: FieldOfStep): Error {
  if (error instanceof MonitorStepError) return error.toCallError(what, fieldOf);
  if (error instanceof BerthError) return error;
  if (isSystemError(error)) return new InternalError(`${what}: ${error.message}`, { cause: error });
  return error instanceof Error ? error : new InternalError(`${what}: ${String(error)}`);
}

function programStart(started: berth.monitor.v1.IStartContainerReply | null | undefined): ProgramStart {
  return { startedAt: toBigInt(started?.started_at), pid: started?.pid ?? 0 };
}

/** The error that the message tells. */
export function monitorError(error: berth.monitor.v1.IError): MonitorStepError {
  const step = error.step ?? "";
  const subject = error.subject ?? "";
  const errnoValue = error.errno_value ?? 0;
  const parts = [subject === "" ? step : `${step} ${JSON.stringify(subject)}`];
  if (errnoValue !== 0) parts.push(describeErrno(errnoValue));
  if (error.message) parts.push(error.message);
  return new MonitorStepError(
    error.kind ?? 0,
    step,
    subject,
    errnoValue,
    parts.filter((part) => part !== "").join(": "),
  );
}
