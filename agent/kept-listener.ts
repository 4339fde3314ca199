/**
 * A listening unix socket that is made again when somebody deletes it: a cleaner of /run, or a mistake. Connections that are
 * there do not notice the deletion; new ones would find nothing until the agent is started again.
 */
import { chmodSync, chownSync, statSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { FailedPreconditionError, messageOf } from "../sandbox/errors.js";
import { makeWayForSocket } from "../sandbox/listening-socket.js";

/** Connections that wait to be accepted. */
const backlog = 511;

const lookEveryMs = 3_000;

export interface KeptListenerOptions {
  path: string;
  /** somebody listens there already, keeps the socket, and has passed it */
  passedFd?: number | undefined;
  /** a group's number, beside root; absent: root's own */
  group?: number | undefined;
  onConnection: (connection: Socket) => void;
  onRestored: () => void;
  /** it cannot be made again */
  onLost: (why: string) => void;
  /** absent: 3 s */
  everyMs?: number;
}

export class KeptListener {
  #server: Server | undefined;
  #identity = "";
  #timer: NodeJS.Timeout | undefined;
  #isTold = false;
  #isClosed = false;

  constructor(private readonly options: KeptListenerOptions) {}

  /** @throws FailedPreconditionError: the place is taken, or cannot be used */
  async listen(): Promise<void> {
    await this.#bind();
    this.#lookLater();
  }

  /** Those that are connected stay so. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#server?.close();
  }

  async #bind(): Promise<void> {
    const { path, passedFd, group, onConnection } = this.options;
    if (passedFd === undefined) await makeWayForSocket(path);
    const server = createServer(onConnection);
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => {
        reject(new FailedPreconditionError(`the socket ${path} cannot be bound: ${error.message}`, { cause: error }));
      });
      server.listen(passedFd === undefined ? { path, backlog } : { fd: passedFd }, resolve);
    });
    if (passedFd === undefined) {
      if (group !== undefined) chownSync(path, 0, group);
      chmodSync(path, 0o660);
    }
    this.#server = server;
    this.#identity = identityOf(path);
    if (this.#isClosed) server.close();
  }

  #lookLater(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      void this.#look().then(() => this.#lookLater());
    }, this.options.everyMs ?? lookEveryMs).unref();
  }

  async #look(): Promise<void> {
    const { path, passedFd } = this.options;
    const found = identityOf(path);
    if (found === this.#identity) {
      this.#isTold = false;
      return;
    }
    if (passedFd !== undefined) return this.#tell("systemctl restart berth.socket makes it again");
    if (found !== "") return this.#tell("something else has its place");
    // its end would take away what has its path by then
    const before = this.#server;
    await new Promise<void>((resolve) => {
      before?.close();
      setImmediate(resolve);
    });
    try {
      await this.#bind();
      this.#isTold = false;
      this.options.onRestored();
    } catch (error) {
      this.#tell(messageOf(error));
    }
  }

  #tell(why: string): void {
    if (!this.#isTold) this.options.onLost(why);
    this.#isTold = true;
  }
}

/** Empty: nothing is there. */
function identityOf(path: string): string {
  try {
    // numbers of inodes are used again
    const { dev, ino, birthtimeMs } = statSync(path);
    return `${dev} ${ino} ${birthtimeMs}`;
  } catch {
    return "";
  }
}
