/** One connection to a port of a pod, and its client's stream of data. */
import { native } from "../../native/binding.js";
import { messageOf, UnavailableError } from "../../sandbox/errors.js";
import type { Outlet } from "./client-streams.js";
import { Endpoint } from "./endpoint.js";
import { Input, Output } from "./program-io.js";

/** What all connections of a client share. */
export interface ForwardingClient {
  /** false: no more should be written until `resume()` of each Forward is called */
  readonly hasRoom: boolean;
  pause(): void;
  resume(): void;
}

export class Forward {
  readonly #input: Input;
  #endpoint: Endpoint | null = null;
  #output: Output | null = null;
  #inputEnded = false;
  #outputEnded = false;
  #over = false;

  /**
   * @param waiting of the client's connections that are not there yet: see Input
   * @param onOver once, unless it was dropped; with why there was no connection, or "" after both sides have ended
   */
  constructor(
    private readonly client: ForwardingClient,
    waiting: { bytes: number },
    private readonly outlet: Outlet,
    private readonly onOver: (problem: string) => void,
  ) {
    this.#input = new Input(client, waiting);
  }

  /** What comes before there is a connection waits. */
  write(bytes: Buffer): void {
    this.#input.write(bytes);
  }

  /** The client sends no more; what it gets is its own affair. */
  end(): void {
    this.#input.end();
  }

  resume(): void {
    this.#output?.resume();
  }

  connect(connecting: Promise<number>): void {
    connecting.then(
      (fd) => this.#start(fd),
      (error: unknown) => this.#finish(messageOf(error)),
    );
  }

  /** Its pod has ended, or there was no connection. The socket is in the pod's network namespace, and would keep it. */
  fail(problem: string): void {
    this.#finish(problem);
  }

  /** The client has given it up. */
  drop(): void {
    this.#over = true;
    this.#input.discard();
    this.#endpoint?.close();
  }

  #start(fd: number): void {
    if (this.#over) {
      native.closeDescriptor(fd);
      return;
    }
    const endpoint = new Endpoint(fd);
    this.#endpoint = endpoint;
    this.#output = new Output(endpoint, this.outlet, this.client, () => {
      this.#outputEnded = true;
      this.#finishWhenEnded();
    });
    this.#input.start(endpoint, () => {
      endpoint.stream.endOutput();
      this.#inputEnded = true;
      this.#finishWhenEnded();
    });
  }

  #finishWhenEnded(): void {
    if (this.#inputEnded && this.#outputEnded) this.#finish("");
  }

  #finish(problem: string): void {
    if (this.#over) return;
    this.drop();
    this.onOver(problem);
  }
}

/** One client's connections: they are made a few at a time, and pause it together. */
export class Forwards implements ForwardingClient {
  readonly #all = new Set<Forward>();
  #connecting = 0;
  readonly #queue: (() => void)[] = [];
  #pauses = 0;
  readonly #waiting = { bytes: 0 };
  /** once, when the client has gone */
  onGone: () => void = () => undefined;

  constructor(
    private readonly client: ForwardingClient,
    private readonly connectTo: (port: number) => Promise<number>,
  ) {}

  get hasRoom(): boolean {
    return this.client.hasRoom;
  }

  pause(): void {
    if (this.#pauses++ === 0) this.client.pause();
  }

  resume(): void {
    if (--this.#pauses === 0) this.client.resume();
  }

  /** See Forward. It connects when connect() is called. */
  open(outlet: Outlet, onOver: (problem: string) => void): Forward {
    const forward: Forward = new Forward(this, this.#waiting, outlet, (problem) => {
      this.#all.delete(forward);
      onOver(problem);
    });
    this.#all.add(forward);
    return forward;
  }

  connect(forward: Forward, port: number): void {
    forward.connect(this.#connect(forward, port));
  }

  drop(forward: Forward): void {
    this.#all.delete(forward);
    forward.drop();
  }

  /** The client has gone. */
  dropAll(): void {
    for (const forward of this.#all) this.drop(forward);
    this.onGone();
    this.onGone = () => undefined;
  }

  /** Ends what there is now, and tells the client why. */
  failAll(problem: string): void {
    for (const forward of this.#all) forward.fail(problem);
  }

  drained(): void {
    for (const forward of this.#all) forward.resume();
  }

  async #connect(forward: Forward, port: number): Promise<number> {
    if (this.#connecting >= mostConnecting) await new Promise<void>((resolve) => this.#queue.push(resolve));
    this.#connecting++;
    try {
      // its client did not wait: what nobody wants any more takes no thread, and makes no connection in the pod
      if (!this.#all.has(forward)) throw new UnavailableError("it was given up before its turn came");
      return await this.connectTo(port);
    } finally {
      this.#connecting--;
      this.#queue.shift()?.();
    }
  }
}

/** Of one client at a time. Each takes a thread. */
const mostConnecting = 32;
