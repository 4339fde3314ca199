/** A program's streams and its client's, put together: what exec and attach share. */
import type { ProgramStreams } from "../../sandbox/monitor-client.js";
import type { ClientStreams, Outlet } from "./client-streams.js";
import { Endpoint, Input, Output } from "./program-io.js";

export interface WiredProgram {
  /** The program has ended; `whenPassed` is called once all of its output is with the client. */
  ended(whenPassed: () => void): void;
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
    client.pause();
    client.onStdin = (bytes) => this.input.write(bytes);
    client.onStdinEnd = () => this.input.end();
    client.onResize = (columns, rows) => this.#resize(columns, rows);
    client.onGone = () => {
      this.gone = true;
    };
  }

  /**
   * Takes the descriptors over.
   * @param onInputEnd the client has no more input, or the program takes none any more
   */
  wire(streams: ProgramStreams, onInputEnd: () => void): WiredProgram {
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
    const pass = (endpoint: Endpoint, outlet: Outlet): void => {
      passing++;
      outputs.push(
        new Output(endpoint, outlet, client, () => {
          passing--;
          if (passing === 0) whenPassed?.();
        }),
      );
    };
    const terminal = streams.terminal === null ? null : open(streams.terminal);
    if (terminal !== null) {
      this.#resize = (columns, rows) => terminal.closed || terminal.stream.resize(columns, rows);
      if (this.#size !== null) this.#resize(this.#size.columns, this.#size.rows);
    }
    if (streams.stdout !== null) pass(open(streams.stdout), client.stdout);
    else if (terminal !== null) pass(terminal, client.stdout);
    if (streams.stderr !== null) pass(open(streams.stderr), client.stderr);
    client.onDrain = () => {
      for (const output of outputs) output.resume();
    };
    client.resume();
    if (streams.stdin !== null) {
      const stdin = open(streams.stdin);
      this.input.start(stdin, () => {
        stdin.close();
        onInputEnd();
      });
    } else {
      this.input.start(terminal, onInputEnd);
    }
    return {
      ended(then) {
        whenPassed = then;
        if (passing === 0) return then();
        for (const output of outputs) output.programEnded();
      },
      close() {
        for (const endpoint of endpoints) endpoint.close();
      },
    };
  }
}
