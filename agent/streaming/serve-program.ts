/** A program's streams and its client's, put together: what exec and attach share. */
import type { ProgramStreams } from "../../sandbox/monitor-client.js";
import type { ClientStreams, Outlet } from "./client-streams.js";
import { Endpoint } from "./endpoint.js";
import { Input, type InputEnd, Output } from "./program-io.js";

export interface WiredProgram {
  /** The first output, which stands for an attachment as a whole. */
  readonly main: Endpoint | null;
  /** `then` is called once all outputs have ended and are with the client. */
  whenPassed(then: () => void): void;
  /** The program has ended: what its outputs hold is the last of it, whoever else may have them open. */
  ended(): void;
  /** whether one of the outputs was cut off before its end */
  brokenOff(): boolean;
  /** lets all descriptors go */
  close(): void;
}

/** Before there is a program: its client waits, and what it has sent already is kept. */
export class WaitingClient {
  readonly input: Input;
  #size: { columns: number; rows: number } | null = null;
  #resize: (columns: number, rows: number) => void = (columns, rows) => {
    this.#size = { columns, rows };
  };
  gone = false;

  constructor(private readonly client: ClientStreams) {
    this.input = new Input(client);
    this.input.hold();
    client.onStdin = (bytes) => this.input.write(bytes);
    client.onStdinEnd = () => this.input.end();
    client.onResize = (columns, rows) => this.#resize(columns, rows);
    client.onGone = () => {
      this.gone = true;
    };
  }

  /**
   * Takes the descriptors over.
   * @param wantsInput false: what the client sends all the same goes nowhere
   */
  wire(streams: ProgramStreams, wantsInput: boolean, onInputEnd: (by: InputEnd) => void): WiredProgram {
    const { client } = this;
    const endpoints: Endpoint[] = [];
    const outputs: Output[] = [];
    let passing = 0;
    let whenPassed: (() => void) | null = null;
    const open = (fd: number): Endpoint => {
      const endpoint = new Endpoint(fd);
      endpoints.push(endpoint);
      return endpoint;
    };
    const pass = (endpoint: Endpoint, outlet: Outlet): Endpoint => {
      passing++;
      outputs.push(
        new Output(endpoint, outlet, client, () => {
          passing--;
          if (passing === 0) whenPassed?.();
        }),
      );
      return endpoint;
    };
    client.begin();
    const terminal = streams.terminal === null ? null : open(streams.terminal);
    if (terminal !== null) {
      this.#resize = (columns, rows) => terminal.closed || terminal.stream.resize(columns, rows);
      if (this.#size !== null) this.#resize(this.#size.columns, this.#size.rows);
    }
    let main: Endpoint | null = null;
    if (streams.stdout !== null) main = pass(open(streams.stdout), client.stdout);
    else if (terminal !== null) main = pass(terminal, client.stdout);
    if (streams.stderr !== null) pass(open(streams.stderr), client.stderr);
    client.onDrain = () => {
      for (const output of outputs) output.resume();
    };
    if (streams.stdin !== null) {
      const stdin = open(streams.stdin);
      this.input.start(stdin, (by) => {
        stdin.close();
        onInputEnd(by);
      });
    } else {
      this.input.start(wantsInput ? terminal : null, onInputEnd);
    }
    return {
      main,
      whenPassed(then) {
        whenPassed = then;
        if (passing === 0) then();
      },
      ended() {
        for (const output of outputs) output.programEnded();
      },
      brokenOff: () => outputs.some((output) => output.brokenOff),
      close() {
        for (const endpoint of endpoints) endpoint.close();
      },
    };
  }
}
