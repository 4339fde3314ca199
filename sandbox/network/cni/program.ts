/** A program of the host's with its standard streams, for plugins: started without a fork of the agent. */
import { type ByteStream, native, readable, writable } from "../../../native/binding.js";

export interface ProgramOptions {
  path: string;
  environment: Readonly<Record<string, string | undefined>>;
  input: string;
  onOutput: (bytes: Buffer) => void;
  onErrors: (bytes: Buffer) => void;
}

export interface ProgramEnd {
  /** null: a signal ended it */
  code: number | null;
  signal: number | null;
}

/** One at a time is filled, and what is wanted of it is copied: callbacks do not wait. */
const buffer = Buffer.alloc(64 * 1024);
/** Of one stream, before others have their turn. */
const readsInTurn = 16;

export class Program {
  readonly #pid: number;
  readonly #pidfd: number;
  readonly #streams: ByteStream[];
  readonly #drain: () => void;
  /** once it has ended and all that it wrote has been handed over; who else holds its pipes is not waited for */
  readonly ended: Promise<ProgramEnd>;

  /** @throws SystemError: it cannot be executed */
  static async start(options: ProgramOptions): Promise<Program> {
    const environment = Object.entries(options.environment).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${value}`],
    );
    return new Program(await native.spawnProgram({ path: options.path, environment }), options);
  }

  private constructor(
    { pid, pidfd, input, output, errors }: Awaited<ReturnType<typeof native.spawnProgram>>,
    options: ProgramOptions,
  ) {
    this.#pid = pid;
    this.#pidfd = pidfd;
    const outputs = [reading(output, options.onOutput), reading(errors, options.onErrors)];
    this.#streams = [writing(input, options.input), ...outputs.map(({ stream }) => stream)];
    this.#drain = () => {
      for (const { drain } of outputs) drain();
    };
    this.ended = new Promise((resolve) => {
      native.watchProcess(pidfd, (code, signal) => {
        // children that it has left behind would hold the pod's network namespace
        this.killAll();
        this.#drain();
        this.#close();
        resolve({ code, signal });
      });
    });
  }

  terminate(): void {
    try {
      native.sendSignal(this.#pidfd, 15);
    } catch {
      // it has ended
    }
  }

  /** It, and what it has started and has not left its process group. */
  killAll(): void {
    try {
      process.kill(-this.#pid, "SIGKILL");
    } catch {
      // nobody is left in it
    }
  }

  #close(): void {
    for (const stream of this.#streams) stream.close();
    native.closeDescriptor(this.#pidfd);
  }
}

function reading(fd: number, onBytes: (bytes: Buffer) => void): { stream: ByteStream; drain: () => void } {
  const read = (most: number): void => {
    for (let i = 0; i < most; i++) {
      const count = stream.read(buffer);
      if (count < 0) stream.listen(0);
      if (count <= 0) return;
      onBytes(buffer.subarray(0, count));
    }
  };
  const stream = new native.ByteStream(fd, () => read(readsInTurn));
  stream.listen(readable);
  // a pipe holds no more, unless somebody still fills it
  return { stream, drain: () => read(readsInTurn) };
}

/** It need not read what it is given. */
function writing(fd: number, text: string): ByteStream {
  let left = Buffer.from(text);
  const write = (): void => {
    const count = stream.write(left);
    left = left.subarray(Math.max(count, 0));
    if (count < 0 || left.length === 0) stream.close();
    else stream.listen(writable);
  };
  const stream = new native.ByteStream(fd, write);
  write();
  return stream;
}
